"""What this machine lends to a build so that it works behind a company's proxy, mirror and certificates.

It lies in the build's first stage only; the finished image has none of it, neither in a layer nor in its history.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

SUITE = "bookworm"
PLACE = "/tmp/build"  # noqa: S108 - inside the build's own container
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
APT = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
PIP = (Path("/etc/pip.conf"), Path("~/.config/pip/pip.conf"), Path("~/.pip/pip.conf"))
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def files() -> dict[str, bytes]:
    """Name in the build's context → content: certificates, and configurations of apt and pip that use them."""
    sources = [f"deb {uri} {suite} main" for uri, suite in apt_sources()]
    index = pip_index()
    apt: list[str] = []
    pip = ["[global]", "disable-pip-version-check = true", "no-cache-dir = true", "progress-bar = off"]
    lent: dict[str, bytes] = {}
    if CA_BUNDLE.exists():
        lent["ca-bundle.crt"] = CA_BUNDLE.read_bytes()
        apt.append(f'Acquire::https::CAInfo "{PLACE}/ca-bundle.crt";')
        pip.append(f"cert = {PLACE}/ca-bundle.crt")
    if sources:
        lent["sources.list"] = _text(sources)
        apt += [f'Dir::Etc::SourceList "{PLACE}/sources.list";', 'Dir::Etc::SourceParts "-";']
    if index is not None:
        pip.append(f"index-url = {index}")
    return lent | {"apt.conf": _text(apt), "pip.conf": _text(pip)}


def proxies() -> dict[str, str]:
    """Build arguments that every engine knows by itself, and therefore leaves out of the image's history."""
    return {
        name: value for name in PROXIES if (value := os.environ.get(name) or os.environ.get(name.upper()))
    }


def apt_sources(places: Iterable[Path] = APT, own: str | None = None) -> list[tuple[str, str]]:
    """This machine's Debian mirrors as (address, suite), for bookworm whichever Debian runs here; empty if it runs
    another distribution. `own` is the code name of what runs here."""
    own = _code_name() if own is None else own
    if not own:
        return []
    known = re.compile(rf"(?:{re.escape(own)}|{SUITE})(|-updates|-security)")
    found: list[tuple[str, str]] = []
    for uri, suite, components in _lines(places):
        match = known.fullmatch(suite)
        source = (uri.rstrip("/"), f"{SUITE}{match[1]}") if match else None
        if (
            source
            and source not in found
            and "main" in components
            and uri.startswith(("http://", "https://"))
        ):
            found.append(source)
    return found if any(suite == SUITE for _, suite in found) else []


def pip_index(places: Iterable[Path] = PIP) -> str | None:
    """The package index that this user's pip asks; None for the public one."""
    if index := os.environ.get("PIP_INDEX_URL"):
        return index
    for place in places:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(place.expanduser())
        except configparser.Error:
            continue
        if index := parser.get("global", "index-url", fallback=None):
            return index
    return None


def _lines(places: Iterable[Path]) -> Iterator[tuple[str, str, list[str]]]:
    """Every source as (address, suite, components), out of both forms that apt knows."""
    for place in places:
        for file in sorted(place.iterdir()) if place.is_dir() else [place]:
            if file.suffix == ".list" and file.is_file():
                yield from _one_line_form(file.read_text(errors="replace"))
            elif file.suffix == ".sources" and file.is_file():
                yield from _stanza_form(file.read_text(errors="replace"))


def _one_line_form(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for line in re.finditer(r"^\s*deb\s+(?:\[[^]]*]\s*)?(\S+)\s+(\S+)\s+([^#\n]+)", text, re.MULTILINE):
        yield line[1], line[2], line[3].split()


def _stanza_form(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for stanza in re.split(r"\n\s*\n", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)):
        fields = {
            field[1].lower(): field[2].split()
            for field in re.finditer(r"^([\w-]+):((?:.*(?:\n[ \t].*)*))", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", ()) and fields.get("enabled") != ["no"]:
            for uri in fields.get("uris", ()):
                for suite in fields.get("suites", ()):
                    yield uri, suite, fields.get("components", [])


def _code_name(release: Path = Path("/etc/os-release")) -> str:
    """Debian's code name here; empty on another distribution."""
    text = release.read_text() if release.exists() else ""
    name = re.search(r'^VERSION_CODENAME="?(\w+)', text, re.MULTILINE)
    return name[1] if name and re.search(r'^ID="?debian"?$', text, re.MULTILINE) else ""


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
