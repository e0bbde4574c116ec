"""The first layer of every environment: Debian's slim image from its registry, or the same made here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from pathlib import Path

from images import lent
from leasing.drivers.protocol import Lifecycle, Progress
from leasing.errors import DriverError, HostError

OFFICIAL = f"debian:{lent.SUITE}-slim"
OWN = f"leasing/debian:{lent.SUITE}"
"""What stands in for it where no registry answers."""

SCRATCH = "/var/tmp"  # noqa: S108 - a fresh folder in it; /tmp is often mounted without devices, which debootstrap needs
TREES = (("debian", ""), ("debian", "-updates"), ("debian-security", "-security"))
DEFAULT_MIRROR = re.compile(r'^DEF_MIRROR="(\S+)/debian"$', re.MULTILINE)
"""In debootstrap, which is a shell script: where it takes Debian from if nobody says otherwise."""
LEFT_OUT = ("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/groff", "usr/share/lintian")
EMPTIED = ("var/cache/apt", "var/lib/apt/lists", "var/log", "tmp")


def ensure(engine: Lifecycle, progress: Progress) -> str:
    """Its reference. Raises `HostError` where it can be had in neither way."""
    for reference in (OFFICIAL, OWN):
        if engine.find_image(reference) is not None:
            return reference
    try:
        engine.pull_image(OFFICIAL, None, progress)
    except DriverError as error:
        progress("no registry answers; making Debian here with debootstrap")
        _make(engine, progress, because=error.message)
        return OWN
    return OFFICIAL


def _make(engine: Lifecycle, progress: Progress, *, because: str) -> None:
    tool = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if tool is None or os.geteuid() != 0:
        raise HostError(
            f"{OFFICIAL} cannot be pulled ({because.rstrip('.')}), and making it here takes root and debootstrap.",
            hint="As root: apt-get install debootstrap, then try again. Or load the image: docker load -i FILE",
        )
    with tempfile.TemporaryDirectory(prefix="leasing-debian-", dir=SCRATCH) as scratch:
        root, packed = Path(scratch, "root"), Path(scratch, "root.tar")
        mirror = next((uri for uri, suite in lent.apt_sources() if suite == lent.SUITE), None)
        public = public_mirror(Path(tool))
        _run([tool, "--variant=minbase", lent.SUITE, str(root), *([mirror] if mirror else [])], progress)
        slim(root, public)
        progress("importing Debian")
        _run(["tar", "-C", str(root), "--numeric-owner", "-cf", str(packed), "."], progress)
        engine.import_image(packed, tag=OWN, changes=['CMD ["bash"]'])


def public_mirror(tool: Path) -> str | None:
    """Whose mirror the image is to name, for this machine's own may be out of a lease's reach; `None` where debootstrap
    does not say."""
    found = DEFAULT_MIRROR.search(tool.read_text())
    return found and found[1]


def slim(root: Path, mirror: str | None) -> None:
    """Leave out what Debian's own slim image leaves out, now and whenever a package is installed; and, if `mirror`
    names another, the mirror that this machine uses."""
    for name in LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in EMPTIED:
        for path in (root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in (root / "usr/share/doc").rglob("*"):
        if not path.is_dir() and path.name != "copyright":
            path.unlink()
    excluded = [f"path-exclude /{name}/*" for name in (*LEFT_OUT, "usr/share/doc")]
    text = "\n".join([*excluded, "path-include /usr/share/doc/*/copyright", ""])
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(text)
    if mirror is None:
        return
    sources = [f"deb {mirror}/{tree} {lent.SUITE}{suite} main" for tree, suite in TREES]
    (root / "etc/apt/sources.list").write_text("\n".join([*sources, ""]))


def _run(command: list[str], progress: Progress) -> None:
    said: deque[str] = deque(maxlen=5)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            progress(said[-1].removeprefix("I: "))
    if process.returncode != 0:
        raise HostError(f"{Path(command[0]).name} failed: {' '.join(said)[-400:]}")
