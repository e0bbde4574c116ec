"""Settings by group, one file each. Every option is an environment variable `LEASING_<GROUP>_<NAME>`.

Nothing is read at import: a process builds the groups it needs at its start and hands them down.
"""
