"""The catalogue of environments: what people name with `--image`, and how it is built where it is absent."""
