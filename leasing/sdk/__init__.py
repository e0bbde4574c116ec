"""The platform from Python: `from leasing import Client`."""
