"""Files of a lease: what there is, out as a tar, in as a tar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx

from leasing.schema.files import FolderOut, UploadOut
from leasing.sdk.transport import Transport, at
from leasing.sdk.wire import ask

ENDLESS = httpx.Timeout(None, connect=5.0)
"""A large one takes as long as it takes."""


def listing(transport: Transport, ref: str, path: str) -> FolderOut:
    return ask(transport, FolderOut, "GET", at("leases", ref, "files", "list"), params={"path": path})


def download(transport: Transport, ref: str, path: str) -> Iterator[bytes]:
    with transport.stream(at("leases", ref, "files"), params={"path": path}) as answer:
        yield from answer.iter_bytes()


def read(transport: Transport, ref: str, path: str) -> bytes:
    with transport.stream(at("leases", ref, "files", "content"), params={"path": path}) as answer:
        return answer.read()


def upload(transport: Transport, ref: str, path: str, tar: Iterable[bytes]) -> UploadOut:
    return ask(
        transport, UploadOut, "PUT", at("leases", ref, "files"),
        params={"path": path}, content=tar, timeout=ENDLESS,
    )  # fmt: skip
