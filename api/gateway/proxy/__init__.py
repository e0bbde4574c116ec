"""The production data plane: HAProxy in front, fed from the grants; what it does not know goes to the built-in one."""
