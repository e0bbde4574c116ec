"""`lease cp`: files into a lease and out of it."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from leasing.cli import show
from leasing.cli.session import App, Json, sdk
from leasing.errors import Conflict, Invalid, NotFound
from leasing.units import format_size

if TYPE_CHECKING:
    from leasing.sdk.lease import Lease
    from leasing.sdk.packing import Copied

PLACE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*):(.*)", re.DOTALL)
"""`NAME:PATH`. A file of this machine that looks like one is written `./…`."""
AGAIN_SECONDS = 0.2


def register(app: App) -> None:
    app.command("cp")(copy)


def copy(
    places: Annotated[
        list[str],
        typer.Argument(help="What, one or more, and where to: one side is NAME:PATH.", metavar="FROM… TO"),
    ],
    _: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders are always copied with all that is in them.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    json: Json = False,
) -> None:
    """Copy files or folders into a lease, or out of it: lease cp data NAME: or lease cp NAME:out.csv .

    A PATH is below /workspace unless it begins with / (or ~, the home); none is /workspace itself.
    """
    *sources, target = places
    if not sources:
        raise Invalid("It takes what to copy, and where to.", hint="For example: lease cp data.csv demo:")
    there, froms = PLACE.fullmatch(target), [PLACE.fullmatch(one) for one in sources]
    meter = _Meter(shown=not quiet and not json and sys.stderr.isatty())
    if there is not None and not any(froms):
        where, copied = _up([Path(one) for one in sources], there[1], there[2], meter)
    elif there is None and all(froms):
        where, copied = _down([(one[1], one[2]) for one in froms if one is not None], Path(target), meter)
    else:
        raise Invalid(
            "One side is a lease's, NAME:PATH, and the other one is of this machine.",
            hint="For example: lease cp data.csv demo: or lease cp demo:out.csv .",
        )
    meter.done()
    for one in copied.skipped:
        print(f"Left out: {show.plain(one)}.", file=sys.stderr)
    if json:
        said = {"files": copied.files, "bytes": copied.bytes, "to": where, "skipped": copied.skipped}
        show.as_json(said)
    elif not quiet:
        print(f"{_files(copied.files)}, {format_size(copied.bytes)}, to {where}")


def _up(sources: list[Path], name: str, path: str, meter: _Meter) -> tuple[str, Copied]:
    from leasing.sdk import packing  # lazy: see session.sdk

    for one in sources:
        one.lstat()  # what is not there is said before anything is asked
    with sdk() as platform:
        lease = platform.lease(name)
        folder, renamed = _goal(lease, sources, path)
        copied = packing.Copied()
        named = [(one, renamed or _own(one)) for one in sources]
        meter.begin(packing.size_of(sources))
        done = lease.upload(folder, packing.packed(named, copied, meter.moved))
        return f"{name}:{PurePosixPath(done.path, renamed) if renamed else done.path}", copied


def _goal(lease: Lease, sources: list[Path], path: str) -> tuple[str, str]:
    """The folder to unpack in, and the name that the one source gets there, if another."""
    if path in ("", "/", "~") or path.endswith("/"):
        return path, ""
    try:
        found = lease.list_files(path)
    except NotFound:
        if len(sources) > 1:
            raise NotFound(
                f"There is no folder {path} in the lease.",
                hint=f"Make it: lease exec {lease.name} -- mkdir -p {path}",
            ) from None
    else:
        if found.itself.folder:
            return path, ""
        if len(sources) > 1 or sources[0].is_dir():
            raise Conflict(f"{found.path} is no folder.", hint="Name a folder, or another place.")
    whole = PurePosixPath(path)
    return str(whole.parent) if whole.parent != PurePosixPath() else "", whole.name


def _down(sources: list[tuple[str, str]], target: Path, meter: _Meter) -> tuple[str, Copied]:
    from leasing.sdk import packing  # lazy: see session.sdk

    into = target.is_dir()
    if not into and (len(sources) > 1 or str(target).endswith("/")):
        raise NotFound(f"There is no folder {target} here.", hint=f"Make it: mkdir -p {target}")
    if not into and not target.parent.is_dir():
        raise NotFound(f"There is no folder {target.parent} here.", hint=f"Make it: mkdir -p {target.parent}")
    whole = packing.Copied()
    meter.begin(None)
    with sdk() as platform:
        for name, path in sources:
            lease = platform.lease(name)
            own = PurePosixPath("/workspace", path).name or "root"
            folder, called = (target, own) if into else (target.parent, target.name)
            one = packing.unpacked(lease.download(path), folder, called, meter.moved)
            whole.files, whole.bytes = whole.files + one.files, whole.bytes + one.bytes
            whole.skipped += one.skipped
    return str(target), whole


def _own(source: Path) -> str:
    """What it is called, also where it was written `.` or `..`."""
    return source.name if source.name not in ("", "..") else source.resolve().name


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


class _Meter:
    """How far it is, in one line of the terminal."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._total: int | None = None
        self._moved = 0
        self._began = self._said_at = time.monotonic()

    def begin(self, total: int | None) -> None:
        """`total` bytes are to come, if that is known."""
        self._total, self._began = total, time.monotonic()

    def moved(self, size: int) -> None:
        self._moved += size
        now = time.monotonic()
        if not self._shown or now - self._said_at < AGAIN_SECONDS:
            return
        self._said_at = now
        speed = f"{format_size(int(self._moved / max(0.1, now - self._began)))}/s"
        whole = f" of {format_size(self._total)}" if self._total else ""
        share = f"{self._moved / self._total:4.0%}  " if self._total else ""
        print(
            f"\r\033[K{share}{format_size(self._moved)}{whole}  {speed}", end="", file=sys.stderr, flush=True
        )

    def done(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
