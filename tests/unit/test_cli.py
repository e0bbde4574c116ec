"""The command line as a shell sees it: help, exit codes, what goes to which stream, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from leasing import errors
from leasing.cli.app import FILES, application, execute
from leasing.cli.session import exit_code
from tests.support.answering import answering
from tests.support.terminal import run

TREE: Any = typer.main.get_command(application())
AWAY = "http://127.0.0.1:1"


def commands(group: Any = TREE, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


ASKING = [
    ("ls",), ("show", "x"), ("why", "x"), ("logs", "x"), ("events", "x"), ("events", "x", "-f"), ("extend", "x", "1h"),
    ("release", "x"), ("suspend", "x"), ("resume", "x"), ("up", "x"), ("exec", "x"), ("offers",), ("images",),
    ("endpoint", "x"), ("queue",), ("demo",), ("whoami",),
    ("tokens", "ls"), ("tokens", "create", "ci"), ("admin", "users", "ls"), ("admin", "nodes", "ls"),
    ("admin", "devices", "ls"), ("admin", "registries", "ls"), ("admin", "nodes", "cordon", "x"),
    ("admin", "users", "create", "eve"), ("admin", "history"), ("admin", "simulate"),
]  # fmt: skip
"""Every command that asks the server for something."""


def test_every_word_of_the_table_is_a_command_and_no_other() -> None:
    words = {word for words in FILES.values() for word in words}
    assert words == set(TREE.commands)
    for word in words:
        assert word in typer.main.get_command(application(word)).commands  # type: ignore[attr-defined]  # a group


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_reads_well(path: tuple[str, ...], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*path, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith(f"Usage: lease {' '.join(path)} ")
    first = said.out.splitlines()[2]
    assert first.startswith("  "), "what it does comes first"
    assert first.strip()[0].isupper()
    assert all(len(line) <= 80 for line in said.out.splitlines())
    for option in re.findall(r"^  (--[a-z-]+|-[a-z], --[a-z-]+)\b(?P<rest>.*)$", said.out, re.MULTILINE):
        assert option[1].strip() or "\n      " in said.out, f"{option[0]} says nothing"


def test_without_a_command_there_is_help_and_a_noun_lists(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert execute([]) == 0
    assert "lease login LINK" in capsys.readouterr().out
    assert execute(["admin"]) == 0
    assert "users" in capsys.readouterr().out
    with answering(200, b'{"items": []}') as url:
        monkeypatch.setenv("LEASING_URL", url)
        monkeypatch.setenv("LEASING_TOKEN", "x")
        assert execute(["admin", "registries"]) == 0
    assert "lease admin registries add" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_produced(shell: str) -> None:
    script = run(_LEASE_COMPLETE=f"source_{shell}").stdout
    assert "_LEASE_COMPLETE" in script
    words = {"bash": {"COMP_WORDS": "lease re", "COMP_CWORD": "1"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "lease re"}
    )
    extra = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    assert "release" in run(_LEASE_COMPLETE=f"complete_{shell}", **words, **extra).stdout


@pytest.mark.parametrize("command", ["ls", "show x", "release x", "exec x", "admin users"])
def test_start_loads_no_more_than_it_uses(command: str) -> None:
    """What `lease ls` loads is most of what it takes; see the benchmark."""
    script = (
        f"import os, sys; sys.argv[1:] = {command.split()!r}\n"
        "os._exit = lambda _: print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "from leasing.cli.app import main; main()"
    )
    environment = dict(os.environ) | {"LEASING_URL": AWAY, "LEASING_TOKEN": "x"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=False, capture_output=True, text=True
    )
    assert "does not answer" in done.stderr
    heavy = {"pydantic", "rich", "click", "pygments", "sqlalchemy", "fastapi", "docker"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.LeasingError, 1), (errors.Invalid, 2), (errors.NoRoom, 3), (errors.NeverFits, 3), (errors.OverQuota, 4),
        (errors.NotFound, 5), (errors.NotSignedIn, 6), (errors.NotAllowed, 1), (errors.NameTaken, 1), (errors.Gone, 1),
        (errors.ImageNotFound, 1), (errors.Unavailable, 75), (errors.EngineDown, 75), (errors.HostError, 1),
    ],
)  # fmt: skip
def test_each_kind_of_refusal_has_its_exit_code_and_its_json(
    error: type[errors.LeasingError],
    code: int,
    signed_in: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(error()) == code
    body = json.dumps({"code": error.code, "detail": "Too much.", "hint": "Ask for less."}).encode()
    with answering(409, body, "application/problem+json") as url:
        signed_in.setenv("LEASING_URL", url)
        assert execute(["show", "x"]) == code
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "Error: Too much.\n  Ask for less.\n")
        assert execute(["show", "x", "--json"]) == code
        said = capsys.readouterr()
        assert json.loads(said.out) == {"code": error.code, "detail": "Too much.", "hint": "Ask for less."}
        assert said.err == ""


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_a_server_that_is_away_or_a_stranger_is_said_in_a_sentence(
    command: tuple[str, ...], signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(command) == 75
    said = capsys.readouterr()
    assert said.out == ""
    assert "does not answer" in said.err
    assert "make run" in said.err
    with answering(500, b"<html>Oops</html>", "text/html") as url:
        signed_in.setenv("LEASING_URL", url)
        assert execute(command) in (1, 75)
        assert ("500" in capsys.readouterr().err) or command[0] == "exec"


@pytest.mark.parametrize(
    "command", [one for one in ASKING if one[0] not in ("logs", "exec") and "-f" not in one], ids=" ".join
)
@pytest.mark.parametrize("body", [b"<html>Sign in to the hotel's network</html>", b"[]", b"{}"])
def test_an_answer_that_is_none_is_said_in_a_sentence(
    command: tuple[str, ...], body: bytes, signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if body == b"{}" and "cordon" in command:
        return  # of that answer nothing is read
    with answering(200, body) as url:
        signed_in.setenv("LEASING_URL", url)
        assert execute(command) == 1
    assert "does not answer as Leasing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"url": 5, "token": "x"}', "is damaged"),
        ("\0\udcff", "is damaged"),
    ],
)
def test_broken_credentials_are_said_with_the_way_out(
    text: str, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "credentials.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert execute(["ls"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "lease login LINK" in error


def test_credentials_that_cannot_be_read_or_written(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "credentials.json").mkdir()
    assert execute(["ls"]) == 1
    assert "LEASING_CONFIG_DIR" in capsys.readouterr().err
    (home / "file").write_text("")
    monkeypatch.setenv("LEASING_CONFIG_DIR", str(home / "file"))
    with answering(200, b'{"name": "ada", "role": "developer"}') as url:
        assert execute(["login", url, "--token", "x"]) == 1
    assert "LEASING_CONFIG_DIR" in capsys.readouterr().err


def test_who_is_not_signed_in_is_told_how(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["ls", "--json"]) == 6
    assert "lease login LINK" in json.loads(capsys.readouterr().out)["hint"]


@pytest.mark.parametrize(
    ("url", "code"), [("nonsense", 2), ("http://", 2), ("http://[::1", 2), ("http://nosuch.invalid", 75)]
)
def test_a_bad_address_is_said_in_a_sentence(
    url: str, code: int, signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_in.setenv("LEASING_URL", url)
    assert execute(["ls"]) == code
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",), ("show",), ("ls", "--nosuch"), ("up", "x", "--port", "many"), ("up", "x", "--port", "0"),
        ("up", "x", "--until", "soon"), ("up", "x", "--for", "1h", "--until", "18:00"), ("up", "x", "--env", "=1"),
        ("extend", "x", "1h", "--until", "18:00"), ("extend", "x", "--until", "soon"), ("show", ""),
        ("release", ".."), ("tokens", "revoke", "no-uuid"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    arguments: tuple[str, ...], signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: ")
    assert execute([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["code"] == "invalid"


def test_after_two_dashes_json_is_the_command_s_own(
    signed_in: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["exec", "x", "--", "tool", "--json"]) == 75
    assert capsys.readouterr().out == ""
