"""What a cycle says to PostgreSQL, taken from the server's own log, as a script for pgbench.

The transactions of one cycle are those that name its lease, in the order of their commits. In the script its own lease,
run, name and device stand as variables, and every client has a device of its own.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leasing.database import plain_url
from leasing.host.postgres_binaries import choose

ENTRY = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ \w+ \[(\d+)\] \S+ (LOG|DETAIL):  (.*)", re.DOTALL)
SAID = re.compile(r"(?:statement|execute [^:]+): (.*)", re.DOTALL)
PARAMETER = re.compile(r"\$(\d+) = ('(?:[^']|'')*'|NULL)")
FIND_RUN = "SELECT id AS run FROM run WHERE lease_id = CAST(:id AS uuid) AND released_at IS NULL"


@dataclass
class Transaction:
    """What one connection said between BEGIN and its end."""

    statements: list[tuple[str, dict[int, str]]] = field(default_factory=list)

    def names(self, text: str) -> bool:
        return any(text in value for _, values in self.statements for value in values.values())


def transactions(log: str) -> Iterator[Transaction]:
    """In the order in which they ended."""
    open_ones: dict[str, Transaction] = {}
    for entry in re.split(r"\n(?=\d{4}-\d\d-\d\d )", log):
        found = ENTRY.match(entry)
        if found is None:
            continue
        backend, kind, rest = found.groups()
        now = open_ones.setdefault(backend, Transaction())
        if kind == "DETAIL":
            if now.statements and rest.startswith("parameters: "):
                now.statements[-1][1].update({int(n): value for n, value in PARAMETER.findall(rest)})
            continue
        said = SAID.match(rest)
        if said is None:
            continue
        statement = said[1].strip().rstrip(";")
        if statement == "BEGIN":
            open_ones[backend] = Transaction()
        elif statement in ("COMMIT", "ROLLBACK"):
            yield open_ones.pop(backend)
        elif statement:
            now.statements.append((statement, {}))


@dataclass(frozen=True)
class Script:
    """For pgbench: one run of it is one cycle."""

    text: str
    listed: Sequence[str]
    """Every statement, shortened, in order."""
    commits: int


@dataclass(frozen=True)
class Own:
    """What a cycle's statements name that the next cycle must name otherwise."""

    lease: str
    name: str
    run: str
    container: str
    device: str
    user: str
    token: str
    """Its hash, as the server writes it."""


def script(
    found: Sequence[Transaction], own: Own, *, devices: Sequence[str], users: Sequence[tuple[str, str]]
) -> Script:
    """The transactions as a script. Each of pgbench's clients is another user, and takes another device."""
    client = "CAST(:client_id AS text)"
    values = {
        own.lease: "CAST(:id AS uuid)",
        own.name: f"('lease-' || {client})",
        own.run: "CAST(:run AS uuid)",
        own.container: f"('container-' || {client})",
        own.device: _one_of(devices, "uuid"),
        own.user: _one_of([one for one, _ in users], "uuid"),
        own.token: _one_of([token.replace("\\", "\\\\") for _, token in users], "bytea"),
    }
    lines: list[str] = []
    listed: list[str] = []
    known = False
    for one in found:
        lines.append("BEGIN;")
        for statement, parameters in one.statements:
            if not known and any(own.run in value for value in parameters.values()):
                lines.append(f"{FIND_RUN} \\gset")
                known = True
            text = _filled(re.sub(r"--[^\n]*", "", statement), parameters, values)
            asks = text.startswith("INSERT INTO lease ")
            lines.append(" ".join(text.split()) + (" \\gset" if asks else ";"))
            listed.append(" ".join(statement.split())[:110])
        lines.append("COMMIT;")
        listed.append("COMMIT")
    return Script("\n".join(lines) + "\n", listed, len(found))


def _one_of(values: Sequence[str], kind: str) -> str:
    """Each client has its own of these."""
    return f"(CAST('{{{','.join(values)}}}' AS {kind}[]))[CAST(:client_id AS int) + 1]"


def _filled(statement: str, parameters: dict[int, str], values: dict[str, str]) -> str:
    return re.sub(r"\$(\d+)", lambda number: _value(parameters[int(number[1])], values), statement)


def _value(literal: str, values: dict[str, str]) -> str:
    bare = literal[1:-1]
    if bare in values:
        return values[bare]
    if bare.startswith("{") and bare.endswith("}") and bare[1:-1] in values:
        return f"ARRAY[{values[bare[1:-1]]}]"
    if ":" in literal:  # pgbench sees variables inside of strings too
        return "E" + literal.replace("\\", "\\\\").replace(":", "\\x3a")
    return literal


def pgbench(url: str, found: Script, folder: Path, *, clients: int, seconds: int) -> float:
    """Runs of the script a second."""
    path = folder / "cycle.sql"
    path.write_text(found.text)
    done = subprocess.run(
        [
            choose(None).program("pgbench"), "--no-vacuum", "--protocol=prepared", f"--client={clients}", "--jobs=2",
            "--max-tries=20", f"--time={seconds}", f"--file={path}", plain_url(url),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    assert rate is not None, done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    return float(rate[1])
