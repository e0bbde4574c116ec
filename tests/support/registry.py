"""A private container registry in this process: one image under any name, behind a user and a password if asked for.

Engines take plain HTTP from 127.0.0.1, so the machine's own engine can pull from it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Answers the read half of the registry API, version 2."""

    def __init__(self, login: tuple[str, str] | None) -> None:
        """`login`: the user and password that it wants; None lets everybody read."""
        self._wanted = login and "Basic " + base64.b64encode(":".join(login).encode()).decode()
        self._blobs: dict[str, bytes] = {}
        self._manifest = self._publish()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def _publish(self) -> bytes:
        """One image of one layer with one file; its content differs between registries, so that each pull is one."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            content = str(id(self)).encode()
            entry = tarfile.TarInfo("registry")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        layer = data.getvalue()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/registry"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        packed = gzip.compress(layer, mtime=0)
        for blob in (config, packed):
            self._blobs[_digest(blob)] = blob
        kinds = ("container.image.v1+json", "image.rootfs.diff.tar.gzip")
        described = [
            {"mediaType": f"application/vnd.docker.{kind}", "size": len(blob), "digest": _digest(blob)}
            for kind, blob in zip(kinds, (config, packed), strict=True)
        ]
        return json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
        ).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        wanted, manifest, blobs = self._wanted, self._manifest, self._blobs

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if wanted is not None and self.headers.get("Authorization") != wanted:
                    self._answer(401, "application/json", b"{}", {"WWW-Authenticate": 'Basic realm="test"'})
                elif "/manifests/nosuch" in self.path:
                    said = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
                    self._answer(404, "application/json", said)
                elif "/manifests/" in self.path:
                    self._answer(200, MANIFEST, manifest, {"Docker-Content-Digest": _digest(manifest)})
                elif "/blobs/" in self.path:
                    self._answer(200, "application/octet-stream", blobs[self.path.rpartition("/")[2]])
                else:
                    self._answer(200, "application/json", b"{}")

            do_HEAD = do_GET  # noqa: N815 - the name by which the server looks for it

            def _answer(
                self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None
            ) -> None:
                self.send_response(status)
                for name, value in {
                    "Content-Type": kind,
                    "Content-Length": str(len(body)),
                    **(headers or {}),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def serving(login: tuple[str, str] | None = None) -> Iterator[Registry]:
    registry = Registry(login)
    thread = threading.Thread(target=registry.serve)
    thread.start()
    try:
        yield registry
    finally:
        registry.close()
        thread.join()
