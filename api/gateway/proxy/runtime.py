"""Speaking with a running HAProxy through its admin socket: maps, tables, sessions."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOM = 12 * 1024
"""Bytes of one command or payload; the proxy's own buffer is 16 KiB."""
MOST_BYTES = 64 * 2**20
PAIR = re.compile(r"(\w+)(?:\(\d+\))?=(\S+)")
SESSION = re.compile(r"^(0x[0-9a-f]+): proto=\S+ src=(\S+) fe=public be=apps\S* ", re.MULTILINE)


class Unanswered(OSError):
    """The proxy does not answer, or not as it should: nothing is known of what it holds."""


@dataclass(frozen=True)
class Runtime:
    """One conversation a command, so that none waits behind another's answer."""

    path: Path
    seconds: float

    def ask(self, command: str) -> str:
        """What it answers. Raises `Unanswered`."""
        answer = bytearray()
        try:
            with socket.socket(socket.AF_UNIX) as plain:
                plain.settimeout(self.seconds)
                plain.connect(str(self.path))
                plain.sendall(command.encode() + b"\n")
                while part := plain.recv(65536):
                    answer += part
                    if len(answer) > MOST_BYTES:
                        raise Unanswered("the proxy's answer does not end")
        except OSError as error:
            raise Unanswered(f"the proxy does not answer: {error}") from error
        return answer.decode("utf-8", "replace")

    def do(self, commands: Sequence[str], table: str = "") -> list[dict[str, str]]:
        """Commands that answer nothing when they succeed; then the rows of that stick table, each by its columns.

        All in one breath: a loaded proxy answers only once a round of its work. Raises `Unanswered` with what was said.
        """
        rows: list[dict[str, str]] = []
        for line in _joined([*commands, *([f"show table {table}"] if table else [])]):
            for said in self.ask(line).splitlines():
                if table and said.startswith("0x"):
                    rows.append(dict(PAIR.findall(said)))
                elif said and not (table and said.startswith(f"# table: {table}, ")):
                    raise Unanswered(f"the proxy refused: {said[:200]}")
        return rows

    def add(self, file: Path, entries: Mapping[str, str]) -> None:
        """New entries of a map, many in one command."""
        for lines in _filled(f"{key} {value}\n" for key, value in entries.items()):
            if said := self.ask(f"add map {file} <<\n{lines}").strip():
                raise Unanswered(f"the proxy refused: {said[:200]}")

    def carried(self) -> list[tuple[str, str]]:
        """(session, caller's `address:port`) of whatever passes to applications now."""
        return SESSION.findall(self.ask("show sess"))


def _joined(commands: Iterable[str]) -> Iterator[str]:
    line = ""
    for command in commands:
        if line and len(line) + len(command) > ROOM:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line


def _filled(lines: Iterable[str]) -> Iterator[str]:
    text = ""
    for line in lines:
        if len(text) + len(line) > ROOM:
            yield text
            text = ""
        text += line
    if text:
        yield text
