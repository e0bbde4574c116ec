"""One file a noun, each operation a few lines over a service."""
