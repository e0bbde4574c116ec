"""Pure decisions over read-only snapshots. No SQL, no engine, no clock: the same code runs in tests and simulations."""
