"""Import directions, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import sources

HEAVY = {
    "sqlalchemy",
    "psycopg",
    "alembic",
    "fastapi",
    "docker",
    "pynvml",
    "apscheduler",
    "aiohttp",
    "uvicorn",
}

BUILT = {
    "FastAPI",
    "Application",
    "create_engine",
    "sessionmaker",
    "sessions",
    "BackgroundScheduler",
    "BlockingScheduler",
    "DockerClient",
    "APIClient",
    "from_env",
    "create_app",
}
"""What a process makes when it starts and hands down; made at import, a test could not choose its own."""


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"]
    done = subprocess.run(command, cwd=sources.ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["leasing.sdk.client", "leasing.cli.app"])
def test_client_side_loads_no_server(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded = HEAVY & set(done.stdout.split())
    assert not loaded, f"importing {module} loads {loaded}"


def test_nothing_is_built_at_import() -> None:
    built = [
        f"{sources.name(path)}:{call.lineno} {called}"
        for path in sources.python(tests=False)
        for call in _calls_at_import(ast.parse(path.read_text()))
        if (called := _called(call)) in BUILT or called.endswith("Settings")
    ]
    assert not built, f"build these in a function that a process calls at its start: {built}"


def _calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Calls that run when the module is imported: everything but function bodies."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _calls_at_import(child)


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
