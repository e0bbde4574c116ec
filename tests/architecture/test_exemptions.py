"""An exemption from a check says which and why."""

from __future__ import annotations

import io
import re
import tokenize
import tomllib
from pathlib import Path

from tests.support import sources

MARK = re.compile(r"(noqa|type:\s*ignore|pragma:|nosec)")
COMPLETE = re.compile(
    r"""
    \#\s*noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*\s*[-–—:#]+\s*\S.{5,}
    | \#\s*type:\s*ignore\[[a-z-]+(?:,\s*[a-z-]+)*\]\s*[-–—#]+\s*\S.{5,}
    """,
    re.VERBOSE,
)


def test_every_exemption_in_code_names_its_rule_and_its_reason() -> None:
    bare = [
        f"{sources.name(path)}:{line} {comment}"
        for path in sources.python(tests=True)
        for line, comment in _comments(path)
        if MARK.match(comment.lstrip("# ")) and not COMPLETE.search(comment)
    ]
    assert not bare, "write `# noqa: RULE - reason` or `# type: ignore[rule]  # reason`:\n" + "\n".join(bare)


def test_every_exemption_in_the_configuration_has_its_reason() -> None:
    text = (sources.ROOT / "pyproject.toml").read_text()
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    exempt = {*lint["ignore"], *(rule for rules in lint["per-file-ignores"].values() for rule in rules)}
    bare = {rule for rule in exempt if re.search(rf'^ +"{rule}",\s*$', text, re.MULTILINE)} - set(
        lint["select"]
    )
    assert not bare, f"pyproject.toml gives no reason for {sorted(bare)}"


def _comments(path: Path) -> list[tuple[int, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
