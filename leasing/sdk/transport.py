"""HTTP to the api: errors come back as the classes they were, a server that is away as `Unavailable`."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from leasing import __version__, errors
from leasing.sdk.credentials import Credentials

TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Transport:
    """One server, one token."""

    def __init__(self, credentials: Credentials) -> None:
        self.url = credentials.url.rstrip("/")
        self.token = credentials.token
        self.verify = tls_context(self.url, credentials.fingerprint)
        self.http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {credentials.token}", "User-Agent": f"leasing/{__version__}"},
            timeout=TIMEOUT,
            verify=self.verify,
        )

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The answer's JSON (None for an empty one). Raises the platform's own errors."""
        with self._reaching():
            answer = self.http.request(method, path, **arguments)
        raise_for(answer)
        return answer.json() if answer.content else None

    @contextmanager
    def stream(self, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """An answer that goes on; no time-out while it is silent."""
        with (
            self._reaching(),
            self.http.stream("GET", path, timeout=httpx.Timeout(None, connect=5.0), **arguments) as answer,
        ):
            if answer.is_error:
                answer.read()
            raise_for(answer)
            yield answer

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise errors.Unavailable(
                f"{self.url} does not answer: {str(error) or type(error).__name__}.",
                hint="Is it running? On the server: make run",
            ) from error

    def close(self) -> None:
        self.http.close()


def raise_for(answer: httpx.Response) -> None:
    """Raise what a problem answer says, as the class it was on the server."""
    if not answer.is_error:
        return
    try:
        problem = answer.json()
        code, detail, hint = problem["code"], problem["detail"], problem.get("hint")
    except (ValueError, KeyError, TypeError):
        code, detail, hint = "error", f"{answer.request.url} answered {answer.status_code}.", None
    fallback = errors.Unavailable if answer.status_code in (502, 503, 504) else errors.LeasingError
    raise errors.by_code().get(code, fallback)(detail, hint=hint)


def tls_context(url: str, fingerprint: str | None) -> ssl.SSLContext | bool:
    """How to check the server's certificate: the usual way, or by the fingerprint that was accepted at sign-in.

    Raises `NotAllowed` when the server now shows another certificate than the accepted one.
    """
    if fingerprint is None or not url.startswith("https://"):
        return True
    certificate = server_certificate(url)
    if hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest() != fingerprint:
        raise errors.NotAllowed(
            f"{url} shows another certificate than the one you accepted.",
            hint="If that is right, sign in anew: lease login URL --token TOKEN",
        )
    context = ssl.create_default_context(cadata=certificate)
    context.check_hostname = False  # the certificate itself was accepted, whatever name it carries
    return context


def server_certificate(url: str) -> str:
    """The certificate (PEM) a server shows. Raises `Unavailable`."""
    parts = urlsplit(url)
    try:
        return ssl.get_server_certificate((parts.hostname or "", parts.port or 443), timeout=5.0)
    except OSError as error:
        raise errors.Unavailable(f"{url} does not answer: {error}.") from error
