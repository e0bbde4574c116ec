"""HTTP/1.1 and WebSocket on the wire. llhttp parses; what it takes and two readers may read in two ways is refused."""
