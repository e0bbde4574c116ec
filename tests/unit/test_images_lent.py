"""What a machine's own package sources become inside a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from images import debian, lent

STANZAS = """\
# a comment
Types: deb deb-src
URIs: https://mirror.corp.example/debian/
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Types: deb
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: https://mirror.corp.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://old.example/debian
Suites: bookworm
Components: main
Enabled: no
"""

LINES = """\
# deb http://commented.example/debian bookworm main
deb [signed-by=/usr/share/keyrings/a.gpg arch=amd64] http://mirror.corp.example/debian trixie main # ours
deb http://mirror.corp.example/debian trixie-updates main contrib
deb-src http://mirror.corp.example/debian trixie main
deb https://packages.example/apt stable main
deb http://mirror.corp.example/debian trixie-security non-free
deb file:/srv/packages trixie main
"""


def test_mirrors_in_the_newer_form_are_found(tmp_path: Path) -> None:
    (tmp_path / "debian.sources").write_text(STANZAS)
    assert lent.apt_sources([tmp_path], own="bookworm") == [
        ("https://mirror.corp.example/debian", "bookworm"),
        ("https://mirror.corp.example/debian", "bookworm-updates"),
        ("https://mirror.corp.example/security", "bookworm-security"),
    ]


def test_another_debian_s_mirror_serves_ours_too(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(LINES)
    assert lent.apt_sources([tmp_path / "sources.list", tmp_path / "absent"], own="trixie") == [
        ("http://mirror.corp.example/debian", "bookworm"),
        ("http://mirror.corp.example/debian", "bookworm-updates"),
    ]


def test_another_distribution_lends_no_mirror(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://archive.ubuntu.com/ubuntu noble main\n")
    assert lent.apt_sources([tmp_path / "sources.list"], own="") == []


def test_apt_is_told_of_nothing_that_this_machine_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lent, "CA_BUNDLE", tmp_path / "absent")
    monkeypatch.setattr(lent, "apt_sources", list)
    monkeypatch.setattr(lent, "pip_index", lambda: None)
    files = lent.files()
    assert set(files) == {"apt.conf", "pip.conf"}, "the image's own sources and certificates serve"
    assert files["apt.conf"] == b""
    assert b"cert" not in files["pip.conf"]


def test_the_user_s_package_index_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    (tmp_path / "broken").write_text("index-url\n")
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://a%20b@pypi.corp.example/simple\n")
    places = [tmp_path / "absent", tmp_path / "broken", tmp_path / "pip.conf"]
    assert lent.pip_index(places) == "https://a%20b@pypi.corp.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/simple")
    assert lent.pip_index(places) == "https://other.example/simple"
    assert lent.pip_index([]) == "https://other.example/simple"


def test_proxies_are_taken_in_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*lent.PROXIES, *map(str.upper, lent.PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "localhost")
    assert lent.proxies() == {"https_proxy": "http://proxy:3128", "no_proxy": "localhost"}


def test_our_debian_is_as_slim_as_debian_s_and_names_no_mirror(tmp_path: Path) -> None:
    for name in (
        "usr/share/man/man1/ls.1",
        "usr/share/locale/de/a.mo",
        "usr/share/doc/bash/README",
        "usr/share/doc/bash/copyright",
        "var/cache/apt/archives/bash.deb",
        "var/lib/apt/lists/mirror.corp.example_main",
        "var/log/bootstrap.log",
        "tmp/left",
        "bin/bash",
        "etc/dpkg/dpkg.cfg.d/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "etc/apt").mkdir()
    (tmp_path / "etc/apt/sources.list").write_text("deb http://mirror.corp.example/debian bookworm main\n")

    debian.slim(tmp_path, "http://mirror.example")

    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {
        "bin/bash",
        "usr/share/doc/bash/copyright",
        "etc/apt/sources.list",
        "etc/dpkg/dpkg.cfg.d/slim",
        "etc/dpkg/dpkg.cfg.d/x",
    }
    sources = (tmp_path / "etc/apt/sources.list").read_text()
    assert "corp" not in sources
    assert "bookworm-security" in sources
    assert "path-exclude /usr/share/man/*" in (tmp_path / "etc/dpkg/dpkg.cfg.d/slim").read_text()
