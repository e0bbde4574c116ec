"""`make chaos MINUTES=30 SEED=7`: a long storm. Ends with 1 if anything that must hold did not."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys

from tests.chaos import report
from tests.chaos.storm import CONVERGE_SECONDS, Storm
from tests.chaos.world import world


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same decisions")
    parser.add_argument(
        "--patience", type=float, default=CONVERGE_SECONDS, help="seconds until all must be well"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON, nothing else on stdout")
    parser.add_argument(
        "--keep", action="store_true", help="leave the parts' logs where they are, and say where"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("Only root may start engines and cut networks.")
    for name in [name for name in os.environ if name.startswith("LEASING_")]:
        del os.environ[name]
    seed = random.randrange(10**6) if options.seed is None else options.seed
    with world(keep=options.keep) as made:
        print(f"seed {seed}, logs in {made.root}", file=sys.stderr, flush=True)
        storm = Storm(made, seed, lambda line: print(line, file=sys.stderr, flush=True), options.patience)
        try:
            storm.run(options.minutes * 60)
        except KeyboardInterrupt:
            print("cut short", file=sys.stderr)
        finally:
            said = report.facts(storm, seed)
            storm.close()
    print(json.dumps(said, indent=2) if options.json else report.text(said))
    return 1 if said["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
