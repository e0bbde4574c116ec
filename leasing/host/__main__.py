"""`python -m leasing.host setup [--for-tests]` and `python -m leasing.host firewall`; `make` calls them."""

from __future__ import annotations

import sys

from leasing.errors import HostError, LeasingError
from leasing.host import firewall
from leasing.host.setup import setup
from leasing.settings.firewall import FirewallSettings


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["setup"]:
                setup(for_tests=False)
            case ["setup", "--for-tests"]:
                setup(for_tests=True)
            case ["firewall"]:
                found = firewall.ensure(FirewallSettings())
                print(f"firewall {found.state}: {found.detail}")
                return 0 if found.state is firewall.State.APPLIED else 1
            case _:
                raise HostError(
                    f"unknown arguments: {' '.join(arguments)}", hint="python -m leasing.host setup"
                )
    except LeasingError as error:
        print(f"\nError: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
