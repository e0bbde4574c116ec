"""A recorded month, or a public trace, played again in simulated time by the planner's own code.

No SQL, no engine, no clock: `world` is what is played, `play` plays it under `Options`, `report` says what came of it
and to whom. `recorded` and `openb` read worlds from what people have.
"""
