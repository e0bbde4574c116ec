"""Where bytes are streamed: events, logs, terminals. The only async part of the api."""
