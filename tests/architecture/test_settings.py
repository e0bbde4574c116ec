"""Every setting is explained: in its class, and in docs/settings.md."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

import leasing.settings
from tests.support import sources

PAGE = sources.ROOT / "docs" / "settings.md"
VARIABLE = re.compile(r"\bLEASING_[A-Z][A-Z0-9_]*[A-Z0-9]\b")


def groups() -> Iterator[type[BaseSettings]]:
    for module in pkgutil.iter_modules(leasing.settings.__path__, "leasing.settings."):
        for value in vars(importlib.import_module(module.name)).values():
            if (
                isinstance(value, type)
                and issubclass(value, BaseSettings)
                and value.__module__ == module.name
            ):
                yield value


def variables() -> Iterator[tuple[str, FieldInfo]]:
    for group in groups():
        prefix = group.model_config.get("env_prefix", "")
        for name, field in group.model_fields.items():
            alias = field.validation_alias
            yield (alias if isinstance(alias, str) else f"{prefix}{name}".upper()), field


def test_there_are_settings() -> None:
    assert len(list(variables())) > 10, "the other tests here would pass on nothing"


@pytest.mark.parametrize(("name", "field"), list(variables()))
def test_setting_says_what_it_does(name: str, field: FieldInfo) -> None:
    assert name.startswith("LEASING_")
    assert field.description, f"{name} has no description"


def test_every_setting_is_documented() -> None:
    documented = set(VARIABLE.findall(PAGE.read_text())) if PAGE.exists() else set()
    missing = {name for name, _ in variables()} - documented
    assert not missing, f"docs/settings.md does not explain {sorted(missing)}"


def test_every_variable_that_the_code_names_is_documented() -> None:
    """Some are read by the command line or the Makefile and stand in no class."""
    documented = set(VARIABLE.findall(PAGE.read_text())) if PAGE.exists() else set()
    named = {
        variable
        for path in (*sources.python(tests=False), sources.ROOT / "Makefile")
        for variable in VARIABLE.findall(path.read_text())
    }
    assert not named - documented, f"docs/settings.md does not explain {sorted(named - documented)}"
