"""The endpoints: one rule of who may reach what, and the built-in data plane under it."""
