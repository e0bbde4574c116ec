"""Building an environment on an engine that lacks it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from images.catalogue import Environment, load
from leasing.drivers.protocol import Image, Lifecycle, Progress
from leasing.errors import DriverError, HostError

DEBIAN = "debian:bookworm-slim"
OWN_DEBIAN = "leasing/debian:bookworm"
"""What stands in for it where no registry answers."""

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def ensure(engine: Lifecycle, environment: Environment, progress: Progress) -> Image:
    """The environment's image on that engine, built (and what it builds on) if it is absent.

    Raises `DriverError` with the step that failed, `HostError` where the first layer can be had in no way.
    """
    found = engine.find_image(environment.reference)
    if found is not None:
        return found
    if environment.parent is not None:
        base = load()[environment.parent]
        ensure(engine, base, progress)
        base_reference = base.reference
    else:
        base_reference = _debian(engine, progress)
    progress(f"building {environment.name}")
    arguments = {"BASE": base_reference}
    arguments.update({name: value for name in PROXIES if (value := _proxy(name))})
    return engine.build_image(
        environment.folder,
        tag=environment.reference,
        build_args=arguments,
        labels={},
        extra_files=_lent(),
        progress=progress,
    )


def _proxy(name: str) -> str | None:
    return os.environ.get(name) or os.environ.get(name.upper())


def _lent() -> dict[str, bytes]:
    """This machine's certificates and package source, for the build only."""
    lent = {"sources.list": _sources().encode()}
    if CA_BUNDLE.exists():
        lent["ca-bundle.crt"] = CA_BUNDLE.read_bytes()
    return lent


def _sources() -> str:
    """This machine's Debian bookworm source lines, in the one-line form; empty when it is another distribution."""
    mirror = _mirror()
    return f"deb {mirror} bookworm main\n" if mirror else ""


def _mirror() -> str | None:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(file.read_text(errors="replace") for file in files if file.is_file())
    one_line = re.search(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+bookworm\s", text, re.MULTILINE)
    if one_line:
        return one_line[1]
    for stanza in re.split(r"\n\s*\n", text):
        uri = re.search(r"^URIs:\s*(\S+)", stanza, re.MULTILINE)
        if uri and re.search(r"^Suites:.*\bbookworm\b", stanza, re.MULTILINE):
            return uri[1]
    return None


def _debian(engine: Lifecycle, progress: Progress) -> str:
    """Debian's slim image from the registry, or made here by debootstrap."""
    for reference in (DEBIAN, OWN_DEBIAN):
        if engine.find_image(reference) is not None:
            return reference
    try:
        engine.pull_image(DEBIAN, None, progress)
    except DriverError as error:
        progress("no registry answers; making Debian here with debootstrap")
        _debootstrap(engine, progress, because=str(error))
        return OWN_DEBIAN
    return DEBIAN


def _debootstrap(engine: Lifecycle, progress: Progress, *, because: str) -> None:
    tool = shutil.which("debootstrap")
    if tool is None or os.geteuid() != 0:
        raise HostError(
            f"{DEBIAN} cannot be pulled ({because}) and cannot be made here without root and debootstrap.",
            hint="Run as root after: apt-get install debootstrap. Or load the image: docker load -i FILE.",
        )
    with tempfile.TemporaryDirectory(prefix="leasing-debian-") as scratch:
        root, tarball = Path(scratch, "root"), Path(scratch, "root.tar")
        command = [
            tool,
            "--variant=minbase",
            "bookworm",
            str(root),
            *([mirror] if (mirror := _mirror()) else []),
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise HostError(f"debootstrap failed: {(made.stderr or made.stdout).strip()[-400:]}")
        progress("importing Debian")
        subprocess.run(["tar", "-C", str(root), "-cf", str(tarball), "."], check=True)
        engine.import_image(tarball, tag=OWN_DEBIAN)
