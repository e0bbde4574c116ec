"""A lease's state has one writer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import sources

WRITER = "leasing/service/transitions.py"
SQL = re.compile(
    r"\bUPDATE\s+lease\s+SET\b(?P<assigned>.*?)(?:\bFROM\b|\bWHERE\b|$)", re.IGNORECASE | re.DOTALL
)
STATE = re.compile(r"(?:^|[\s,])state\s*=")


def _writes(tree: ast.AST) -> Iterator[int]:
    """Lines that assign a `state` to what is called a lease, or to rows of leases."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [
                one for target in node.targets for one in ast.walk(target) if isinstance(one, ast.expr)
            ]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        yield from (target.lineno for target in targets if _is_state_of_lease(target))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
            keys = {word.arg for word in node.keywords}
            if "state" in keys and re.search(r"\b(update|insert)\(Lease\)", ast.unparse(node.func)):
                yield node.lineno
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Lease":
            yield from (node.lineno for word in node.keywords if word.arg == "state")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (node.lineno for found in SQL.finditer(node.value) if STATE.search(found["assigned"]))


def _is_state_of_lease(target: ast.expr) -> bool:
    if not isinstance(target, ast.Attribute) or target.attr != "state":
        return False
    return "lease" in ast.unparse(target.value).lower()


def test_only_transitions_write_a_leases_state() -> None:
    others = [
        f"{sources.name(path)}:{line}"
        for path in sources.python(tests=False)
        if not path.is_relative_to(sources.ROOT / "migrations")
        for line in _writes(ast.parse(path.read_text()))
        if sources.name(path) != WRITER
    ]
    assert not others, f"move a lease with leasing.service.transitions instead: {others}"


@pytest.mark.parametrize(
    "line",
    [
        "lease.state = 'ended'",
        "one, lease.state = 1, 'ended'",
        "session.execute(sa.update(Lease).where(Lease.id == 1).values(state='ended'))",
        "Lease(name='a', state='ended')",
        "sa.text('UPDATE lease SET goal = NULL, state = :target WHERE id = 1')",
    ],
)
def test_a_write_is_seen(line: str) -> None:
    assert list(_writes(ast.parse(line))) == [1]


def test_the_writer_is_one_that_the_test_sees() -> None:
    assert list(_writes(ast.parse(Path(sources.ROOT / WRITER).read_text())))
