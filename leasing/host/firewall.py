"""One static rule set for every lease's network, matched by the prefix of its bridge: no lease changes it.

What a container sends to this machine passes INPUT, what it sends elsewhere passes DOCKER-USER; both are guarded.
Allowed is the internet, this machine's name servers, and what the settings name. Another installation on the same
machine shares the rules: they are the same.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from leasing.errors import Invalid
from leasing.settings.firewall import FirewallSettings

BRIDGES = "lsg+"
INPUT, FORWARD = "LEASING-INPUT", "LEASING-FORWARD"
PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8", "224.0.0.0/4",
)  # fmt: skip
FIX = "sudo $(command -v python3) -m leasing.host firewall"


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
    """Put the rules in place if they are not; cheap when they are."""
    if os.geteuid() != 0:
        return Firewall(State.NOT_PERMITTED, f"only root may set it: {FIX}")
    tool = shutil.which("iptables")
    if tool is None:
        return Firewall(State.FAILED, "iptables is not installed: apt-get install iptables")
    wanted = rules(settings, name_servers())
    missing = [chain for chain in (INPUT, FORWARD) if _current(tool, chain) != wanted[chain]]
    unhooked = [
        parent
        for parent, chain in (("INPUT", INPUT), ("DOCKER-USER", FORWARD))
        if not _hooked(tool, parent, chain)
    ]
    if not missing and not unhooked:
        return Firewall(State.APPLIED, "in place")
    try:
        for chain in missing:
            _replace(tool, chain, wanted[chain])
        for parent in unhooked:
            _run(
                [tool, "-w", "-N", parent], check=False
            )  # DOCKER-USER is made by the engine; sooner is no harm
            _run([tool, "-w", "-I", parent, "1", "-j", INPUT if parent == "INPUT" else FORWARD])
    except subprocess.CalledProcessError as error:
        return Firewall(State.FAILED, (error.stderr or str(error)).strip()[:300])
    return Firewall(State.APPLIED, "set now")


def remove() -> bool:
    """Take the rules away if no lease's network is left that they guard; whether they are gone."""
    if os.geteuid() != 0 or any(Path("/sys/class/net").glob("lsg*")):
        return False
    tool = shutil.which("iptables")
    if tool is not None:
        for parent, chain in (("INPUT", INPUT), ("DOCKER-USER", FORWARD)):
            _run([tool, "-w", "-D", parent, "-j", chain], check=False)
            _run([tool, "-w", "-F", chain], check=False)
            _run([tool, "-w", "-X", chain], check=False)
    return True


def rules(settings: FirewallSettings, servers: list[str]) -> dict[str, list[str]]:
    """The rules of each chain, as iptables itself prints them."""
    established = f"-i {BRIDGES} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
    reject = "-j REJECT --reject-with icmp-port-unreachable"
    forward = [established]
    forward += [
        f"-d {server}/32 -i {BRIDGES} -p {protocol} -m {protocol} --dport 53 -j RETURN"
        for server in servers
        for protocol in ("udp", "tcp")
    ]
    for network, port in allowed(settings):
        which = f" -p tcp -m tcp --dport {port}" if port else ""
        forward.append(f"-d {network} -i {BRIDGES}{which} -j RETURN")
    forward += [f"-d {network} -i {BRIDGES} {reject}" for network in PRIVATE]
    return {
        INPUT: [f"-A {INPUT} {rule}" for rule in (established, f"-i {BRIDGES} {reject}")],
        FORWARD: [f"-A {FORWARD} {rule}" for rule in forward],
    }


def allowed(settings: FirewallSettings) -> list[tuple[str, int | None]]:
    """The settings' exceptions as (network, port). Raises `Invalid`."""
    found: list[tuple[str, int | None]] = []
    for text in filter(None, (part.strip() for part in settings.allow.split(","))):
        address, _, port = text.partition(":")
        try:
            found.append((str(ipaddress.IPv4Network(address, strict=False)), int(port) if port else None))
        except ValueError as error:
            raise Invalid(
                f"LEASING_FIREWALL_ALLOW: {text!r} is neither ADDRESS/PREFIX nor ADDRESS:PORT."
            ) from error
    return found


def name_servers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """This machine's own, which the engine hands to containers; those on loopback the engine asks itself."""
    found = re.findall(r"^nameserver\s+([\d.]+)\s*$", path.read_text() if path.exists() else "", re.MULTILINE)
    return [server for server in found if not server.startswith("127.")]


def _current(tool: str, chain: str) -> list[str] | None:
    listed = _run([tool, "-w", "-S", chain], check=False)
    if listed.returncode != 0:
        return None
    return [line for line in listed.stdout.splitlines() if line.startswith("-A ")]


def _hooked(tool: str, parent: str, chain: str) -> bool:
    listed = _run([tool, "-w", "-S", parent], check=False).stdout.splitlines()
    first = next((line for line in listed if line.startswith("-A ")), "")
    return first == f"-A {parent} -j {chain}"


def _replace(tool: str, chain: str, wanted: list[str]) -> None:
    """The whole chain in one step: there is no moment without its rules."""
    text = "\n".join(["*filter", f":{chain} - [0:0]", f"-F {chain}", *wanted, "COMMIT", ""])
    _run([f"{tool}-restore", "-w", "--noflush"], text=text)


def _run(
    command: list[str], *, check: bool = True, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, capture_output=True, text=True, input=text)
