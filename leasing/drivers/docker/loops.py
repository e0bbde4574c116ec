"""File systems in files, for volumes that cannot grow past their size, on an engine of this machine.

A volume is `FOLDER/NAME.ext4`, set up as a loop device; the engine mounts it through the link `LINKS/NAME`. The links
lie in memory: after a restart of the machine there is none, and a container whose device was not set up again does not
start, rather than seeing the device of somebody else. Every step finds what an earlier one left when it was cut short.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leasing.errors import DriverError

LINKS = Path("/run/leasing/workspaces")
TOOLS = ("losetup", "mkfs.ext4", "e2fsck", "resize2fs", "debugfs")
OWNER = "1000:1000"
_GONE = re.compile(r"^(\S+) \S*/(leasing-[0-9a-f]{8}-ws-[0-9a-f]{12})\.ext4\S*\(deleted\)", re.MULTILINE)
_DAMAGED = 4
"""e2fsck's exit codes: below, all is well by now."""
_SECONDS = 600.0


class Loops:
    """The file systems below one engine's data folder."""

    def __init__(self, root: Path) -> None:
        """`root` is the engine's data folder: there lies, and counts, what people write."""
        self._folder = root / "leasing-workspaces"
        self._mounts = root / "volumes"

    def make(self, name: str, size_bytes: int) -> Path:
        """The device to mount, found or made."""
        with self._locked():
            image = self._image(name)
            if not image.exists():
                _let_go()
                self._format(image, size_bytes)
            return self._linked(image, size_bytes)

    def set_up(self, name: str, size_bytes: int) -> None:
        """After a restart of the machine, too; grown if it is smaller than asked and nobody has it."""
        with self._locked():
            image = self._image(name)
            if not image.exists():
                raise DriverError(f"The file {image}, in which the workspace's files were, is gone.")
            self._linked(image, size_bytes)

    def _linked(self, image: Path, size_bytes: int) -> Path:
        device = self._device(image)
        # a mounted one grows another time: that would take a capability that root in a container does not have
        growing = self._growing(image)
        smaller = image.stat().st_size < size_bytes
        if (smaller or growing.exists()) and not self._mounted(image.stem).is_mount():
            growing.touch()  # the file's size does not tell whether its file system came after it
            if smaller:
                os.truncate(image, size_bytes)
            _run("losetup", "--set-capacity", device)
            _run("e2fsck", "-f", "-p", device, good=range(_DAMAGED))  # resize2fs insists on it
            _run("resize2fs", device)
            growing.unlink()
        LINKS.mkdir(parents=True, exist_ok=True)
        link, fresh = LINKS / image.stem, LINKS / f".{image.stem}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(device)
        return fresh.replace(link)

    def remove(self, name: str) -> None:
        """The file system and all that is in it. It must not be mounted."""
        with self._locked():
            (LINKS / name).unlink(missing_ok=True)
            image = self._image(name)
            if not image.exists():
                self._making(image).unlink(missing_ok=True)
                self._growing(image).unlink(missing_ok=True)
                return
            for device in self._devices(image):
                _run("losetup", "--detach", device)
            self._growing(image).unlink(missing_ok=True)
            image.unlink(missing_ok=True)
            _let_go()

    def names(self, prefix: str) -> list[str]:
        """Of those that there are, and of those that were being made."""
        found = self._folder.glob(f"{prefix}*") if self._folder.is_dir() else ()
        return sorted({path.name.partition(".")[0] for path in found})

    def used_bytes(self, name: str) -> int | None:
        """As the file system itself says, its own tables left out. None if there is none of that name."""
        image, mounted = self._image(name), self._mounted(name)
        if not image.exists():
            return None
        if mounted.is_mount():
            now = os.statvfs(mounted)
            return (now.f_blocks - now.f_bfree) * now.f_frsize
        said = _run("debugfs", "-R", "show_super_stats -h", str(image))
        facts = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
        try:
            blocks, own, free, size = (
                int(facts[key]) for key in ("Block count", "Overhead clusters", "Free blocks", "Block size")
            )
        except (KeyError, ValueError) as error:
            raise DriverError(f"The file system {image} does not say how full it is.") from error
        return (blocks - own - free) * size

    def _image(self, name: str) -> Path:
        return self._folder / f"{name}.ext4"

    def _mounted(self, name: str) -> Path:
        """Where the engine mounts it while a container runs that has it."""
        return self._mounts / name / "_data"

    def _making(self, image: Path) -> Path:
        return image.with_suffix(".making")

    def _growing(self, image: Path) -> Path:
        """There from before the file grows until its file system has."""
        return image.with_suffix(".growing")

    def _format(self, image: Path, size_bytes: int) -> None:
        """Under another name until it is whole. The journal costs a millisecond, and saves files from a power cut."""
        making = self._making(image)
        making.unlink(missing_ok=True)
        with making.open("wb") as file:
            os.truncate(file.fileno(), size_bytes)
        options = f"root_owner={OWNER},lazy_itable_init=1,lazy_journal_init=1"
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", options, str(making))
        _run("debugfs", "-w", "-R", "rmdir lost+found", str(making))
        making.replace(image)

    def _device(self, image: Path) -> str:
        """Its loop device: the one it has, or a new one after a look at whether all is well."""
        if found := self._devices(image):
            return found[0]
        _run("e2fsck", "-p", str(image), good=range(_DAMAGED))
        return _run("losetup", "--find", "--show", "--nooverlap", str(image)).strip()

    def _devices(self, image: Path) -> list[str]:
        said = _run("losetup", "--associated", str(image), "--output", "NAME", "--noheadings")
        return said.split()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time on this machine, whichever process."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _let_go() -> None:
    """Devices of files that somebody else removed, as with an engine's whole folder: they would hold the disk for ever.
    One that is mounted goes when it is not."""
    said = _run("losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE")
    for device, name in _GONE.findall(said):
        (LINKS / name).unlink(missing_ok=True)
        _run("losetup", "--detach", device, good=(0, 1))  # another process may have been faster


def possible(info: Mapping[str, Any], address: str) -> Path | None:
    """The engine's data folder, if it runs on this machine, in sight of us, and we may set up loop devices."""
    root = Path(info["DockerRootDir"])
    ours = (
        address.startswith("unix://")
        and os.geteuid() == 0
        and info.get("Name") == socket.gethostname()
        and (root / "volumes").is_dir()
    )
    if ours and Path("/dev/loop-control").exists() and all(shutil.which(tool) for tool in TOOLS):
        return root
    return None


def _run(*command: str, good: Sequence[int] = (0,)) -> str:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_SECONDS,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverError(f"{command[0]} could not be run: {error}.") from error
    if done.returncode not in good:
        raise DriverError(
            f"{command[0]} failed with {done.returncode}: {(done.stderr or done.stdout).strip()[:300]}"
        )
    return done.stdout
