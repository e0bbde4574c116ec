"""The command `lease`: one file a noun."""
