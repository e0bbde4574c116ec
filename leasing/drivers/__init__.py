"""What can run a container. `protocol` says what a driver does; `docker` and `fake` do it."""
