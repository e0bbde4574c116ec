"""One static rule set for every lease's network, matched by the prefix of its bridge: no lease changes it.

What a container sends to this machine passes INPUT, what it sends elsewhere passes DOCKER-USER; both are guarded.
Allowed is the internet, this machine's name servers, and what the settings name; IPv6 not at all, for leases have none.
Another installation on the same machine shares the rules: they are the same.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from leasing.host.firewall_rules import DENY, FORWARD, INPUT, PREFIX, closed, name_servers, rules
from leasing.settings.firewall import FirewallSettings

PARENTS = {"INPUT": INPUT, "DOCKER-USER": FORWARD, "FORWARD": FORWARD}
"""Chains that may jump to ours."""

FIX = f"sudo {sys.executable} -m leasing.host firewall"
ATTEMPTS = 3


class State(StrEnum):
    """How the rules are."""

    APPLIED = "applied"
    NOT_PERMITTED = "not_permitted"
    """Only root may look and set: leases are less isolated until root has run the command in the detail."""
    FAILED = "failed"


@dataclass(frozen=True)
class Firewall:
    """The state, and a sentence for people."""

    state: State
    detail: str


def ensure(settings: FirewallSettings) -> Firewall:
    """Put the rules in place if they are not; cheap when they are. Raises `Invalid` for settings that make no sense."""
    if os.geteuid() != 0:
        return Firewall(State.NOT_PERMITTED, f"only root may set it: {FIX}")
    if shutil.which("iptables") is None:
        return Firewall(State.FAILED, "iptables is not installed: apt-get install iptables")
    wanted = rules(settings.allow, name_servers())
    try:
        changed = [_repair(tool, own) for tool, own in _families(wanted).items()]
    except subprocess.CalledProcessError as error:
        return Firewall(State.FAILED, (error.stderr or str(error)).strip()[:300])
    return Firewall(State.APPLIED, "set now" if any(changed) else "in place")


def remove() -> bool:
    """Take the rules away if no lease's network is left that they guard; whether they are gone."""
    if os.geteuid() != 0 or any(name.startswith(PREFIX) for _, name in socket.if_nameindex()):
        return False
    if shutil.which("iptables") is not None:
        for tool in _families({}):
            current = _current(tool)
            unhook = [f"-D {rule[3:]}" for rule in _jumps(current)]
            ours = [chain for chain in (INPUT, FORWARD, DENY) if chain in current]
            _restore(tool, [*unhook, *(f"-F {chain}" for chain in ours), *(f"-X {chain}" for chain in ours)])
    return True


def repair(current: Mapping[str, Sequence[str]], wanted: Mapping[str, Sequence[str]]) -> list[str]:
    """What to change in the tables as they are (chain → rules), as lines for iptables-restore; pure.

    Our jumps come first in their parents, once each: whatever another program put before them would bypass them.
    Where the engine has no DOCKER-USER chain in use, FORWARD itself jumps to ours.
    """
    lines: list[str] = []
    for chain, own in wanted.items():
        if list(current.get(chain, [])) != list(own) or chain not in current:
            lines += [f":{chain} - [0:0]", f"-F {chain}", *own]
    forward = "DOCKER-USER" if "-A FORWARD -j DOCKER-USER" in current.get("FORWARD", []) else "FORWARD"
    for parent, chain in PARENTS.items():
        jump = f"{parent} -j {chain}"
        places = [place for place, rule in enumerate(current.get(parent, [])) if rule == f"-A {jump}"]
        target = [0] if parent in ("INPUT", forward) else []
        if places != target:
            lines += [f"-D {jump}"] * len(places)
            lines += [f"-I {parent} 1 -j {chain}"] * len(target)
    return lines


def _repair(tool: str, wanted: Mapping[str, Sequence[str]]) -> bool:
    """Whether anything had to be changed. Somebody else may change the tables between our look and our change: the
    change is then refused as a whole, and made anew."""
    for attempt in range(1, ATTEMPTS + 1):
        lines = repair(_current(tool), wanted)
        if not lines:
            return attempt > 1
        try:
            _restore(tool, lines)
        except subprocess.CalledProcessError:
            if attempt == ATTEMPTS:
                raise
        else:
            return True
    return False


def _families(wanted: dict[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """iptables' program for each IP version that this machine speaks, with its rules."""
    found = {"iptables": wanted}
    if Path("/proc/net/if_inet6").exists() and shutil.which("ip6tables") is not None:
        found["ip6tables"] = closed()
    return found


def _current(tool: str) -> dict[str, list[str]]:
    """Every chain of the filter table with its rules, in one look."""
    tables: dict[str, list[str]] = {}
    for line in _run([f"{tool}-save", "-t", "filter"]).splitlines():
        if line.startswith(":"):
            tables[line[1:].partition(" ")[0]] = []
        elif line.startswith("-A "):
            tables[line.split(" ", 2)[1]].append(line)
    return tables


def _jumps(current: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        rule
        for parent, chain in PARENTS.items()
        for rule in current.get(parent, [])
        if rule == f"-A {parent} -j {chain}"
    ]


def _restore(tool: str, lines: Sequence[str]) -> None:
    """All of it in one step: there is no moment without rules."""
    _run([f"{tool}-restore", "-w", "5", "--noflush"], "\n".join(["*filter", *lines, "COMMIT", ""]))


def _run(command: list[str], text: str | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout
