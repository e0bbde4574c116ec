"""Files of a lease's container: what there is, as a tar out, one file by itself, a tar in. Nothing is kept here."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from posixpath import normpath
from typing import IO, Annotated, cast
from urllib.parse import quote
from uuid import UUID

import anyio.from_thread
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from api.deps import Limits
from api.openapi import refusals
from api.streams import access, place, tars, threads
from api.streams.place import Place
from api.streams.room import Seat, Seated
from api.streams.tars import Inflow
from leasing.access import Action
from leasing.drivers.copying import FileEntry
from leasing.drivers.protocol import Streams
from leasing.drivers.spec import HOME, WORKSPACE
from leasing.drivers.streaming import LogStream
from leasing.errors import Invalid, NotAllowed
from leasing.schema.files import FileOut, FolderOut, UploadOut

router = APIRouter(tags=["leases"])
Path = Annotated[
    str,
    Query(
        max_length=4096, description="In the container; a relative one is below `/workspace`, `~` the home."
    ),
]
TAR = "application/x-tar"
FILE = b"f"
"""Counts for as much as a key that somebody pressed: who copies is there."""


@dataclass(frozen=True)
class Spot:
    """A path in a lease's container, and the engine that has it."""

    lease_id: UUID
    path: str
    place: Place
    engine: Streams


@router.get("/leases/{ref}/files/list", summary="What files there are", responses=refusals(409, 502))
async def list_files(ref: str, request: Request, seat: Seated, path: Path = "") -> FolderOut:
    """As the lease's user sees them. Of a folder: what is in it."""
    spot = await run_in_threadpool(_spot, request, seat, ref, path)
    # a command in the container answers, in its own time: the operations' threads are not to wait for it
    found = await threads.wait_for(request.app, spot.engine.list_files, spot.place.container, spot.path)
    return FolderOut(
        path=spot.path,
        itself=_out(found.itself),
        items=[_out(one) for one in found.entries],
        more=found.more,
    )


@router.get(
    "/leases/{ref}/files",
    summary="A file or a folder, as a tar",
    response_class=StreamingResponse,
    responses=refusals(409, 502)
    | {200: {"content": {TAR: {}}, "description": "Below the file's or folder's own name."}},
)
def download_files(ref: str, request: Request, seat: Seated, path: Path = "") -> StreamingResponse:
    """Links are links. If it breaks off, the answer ends without the tar's own end, and without the last chunk."""
    spot = _spot(request, seat, ref, path)
    source = spot.engine.copy_out(spot.place.container, spot.path)
    name = PurePosixPath(spot.path).name or "root"
    return _answer(request, spot, source, source, f"{name}.tar", TAR)


@router.get(
    "/leases/{ref}/files/content",
    summary="What is in one file",
    response_class=StreamingResponse,
    responses=refusals(409, 502) | {200: {"content": {"application/octet-stream": {}}}},
)
def read_file(ref: str, request: Request, seat: Seated, path: Path) -> StreamingResponse:
    """A link leads to what it points to, by one step."""
    spot = _spot(request, seat, ref, path)
    source = spot.engine.copy_out(spot.place.container, spot.path)
    try:
        entry, content = _only(source)
        if entry.issym():
            source.close()
            spot = _spot(request, seat, ref, str(PurePosixPath(spot.path).parent / entry.linkname))
            source = spot.engine.copy_out(spot.place.container, spot.path)
            entry, content = _only(source)
        if not entry.isreg():
            raise Invalid(f"{spot.path} is no file.", hint="A folder comes as a tar: lease cp NAME:PATH .")
    except BaseException:
        source.close()
        raise
    answer = _answer(
        request, spot, source, content, PurePosixPath(spot.path).name, "application/octet-stream"
    )
    answer.headers["Content-Length"] = str(entry.size)
    return answer


@router.put("/leases/{ref}/files", summary="Put files into it", responses=refusals(409, 413, 502))
async def upload_files(
    ref: str, request: Request, seat: Seated, limits: Limits, path: Path = ""
) -> UploadOut:
    """The body is a tar (uncompressed), unpacked in the folder `path` while it comes. Files, folders and links only,
    none of which leaves the folder; they belong to the lease's user. What came before it breaks off stays."""
    spot = await run_in_threadpool(_spot, request, seat, ref, path)
    request.app.state.typed.add(spot.lease_id, FILE)
    pieces = request.stream()
    taken, cut, loop = 0, asyncio.Event(), asyncio.get_running_loop()

    async def coming() -> bytes | None:
        """The next piece, unless it is over first: who sends nothing more is cut off as well."""
        piece, over = asyncio.ensure_future(anext(pieces, None)), asyncio.ensure_future(cut.wait())
        try:
            await asyncio.wait((piece, over), return_when=asyncio.FIRST_COMPLETED)
            if cut.is_set():
                raise NotAllowed(
                    "The upload was broken off: you may no longer enter this lease, or it stops."
                )
            return piece.result()
        except ClientDisconnect as error:
            raise Invalid("The upload broke off before its end.") from error
        finally:
            piece.cancel()
            over.cancel()

    def more() -> bytes | None:
        nonlocal taken
        piece = anyio.from_thread.run(coming)
        taken += len(piece or b"")
        return piece

    def stop() -> None:
        loop.call_soon_threadsafe(cut.set)

    archive = tars.cleaned(Inflow(more), most_bytes=limits.upload_bytes)
    async with access.while_allowed(request, spot.lease_id, Action.ENTER, stop):
        await threads.wait_for(request.app, spot.engine.copy_in, spot.place.container, spot.path, archive)
    return UploadOut(path=spot.path, bytes=taken)


def whole_path(path: str) -> str:
    """Absolute, without `.` and `..`. Raises `Invalid`."""
    if "\0" in path:
        raise Invalid("A path has no NUL character.")
    home, _, rest = path.partition("/")
    path = f"{HOME}/{rest}" if home == "~" else path
    return "/" + normpath(f"{WORKSPACE}/{path}" if not path.startswith("/") else path).lstrip("/")


def _spot(request: Request, seat: Seat, ref: str, path: str) -> Spot:
    with request.app.state.sessions.begin() as session:
        lease, caller = access.find(session, request, ref, Action.ENTER)
        seat.take(caller)
        found = place.of(session, lease)
        return Spot(lease.id, whole_path(path), found, request.app.state.connect(found.driver, found.address))


def _out(one: FileEntry) -> FileOut:
    return FileOut(
        name=one.name, kind=one.kind, folder=one.folder, size_bytes=one.size_bytes,
        modified_at=one.modified_at, mode=f"{one.mode:o}",
    )  # fmt: skip


def _only(source: LogStream) -> tuple[tarfile.TarInfo, Iterator[bytes]]:
    """What stands first in a tar, and its content."""
    inflow = cast("IO[bytes]", Inflow(lambda: next(source, None)))
    tar = tarfile.open(fileobj=inflow, mode="r|", bufsize=tars.CHUNK)  # noqa: SIM115 - what is read needs it
    entry = tar.next()
    if entry is None:
        raise Invalid("There is nothing to read.")
    held = tar.extractfile(entry) if entry.isreg() else None
    return entry, iter(partial(held.read, tars.CHUNK), b"") if held is not None else iter(())


def _answer(
    request: Request, spot: Spot, source: LogStream, pieces: Iterator[bytes], name: str, kind: str
) -> StreamingResponse:
    request.app.state.typed.add(spot.lease_id, FILE)
    return StreamingResponse(
        _stream(request, spot, source, pieces),
        media_type=kind,
        headers={
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        },
    )


async def _stream(
    request: Request, spot: Spot, source: LogStream, pieces: Iterator[bytes]
) -> AsyncIterator[bytes]:
    """A piece is read when the last one has gone out, so the engine waits for a slow reader."""
    cut = False

    def stop() -> None:
        nonlocal cut
        cut = True
        source.close()

    try:
        async with access.while_allowed(request, spot.lease_id, Action.ENTER, stop):
            while (chunk := await threads.wait_for(request.app, partial(next, pieces, None))) is not None:
                yield chunk
            if cut:  # it must not look whole
                raise NotAllowed("It was broken off.")
    finally:
        source.close()
