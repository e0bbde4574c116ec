"""HTTP to the api: errors come back as the classes they were, a server that is away as `Unavailable`."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from leasing import __version__, errors
from leasing.keepalive import keep_alive
from leasing.sdk.credentials import Credentials

ERRNO = re.compile(r"\[Errno -?\d+\] ")
TIMEOUT = httpx.Timeout(30.0, connect=5.0)


BY_STATUS: dict[int, type[errors.LeasingError]] = {
    401: errors.NotSignedIn, 403: errors.NotAllowed, 404: errors.NotFound, 409: errors.Conflict, 410: errors.Gone,
    422: errors.Invalid, 502: errors.Unavailable, 503: errors.Unavailable, 504: errors.Unavailable,
}  # fmt: skip
"""What an answer means whose code this version does not know: from a newer server, or a proxy before it."""


class Answer(dict[str, Any]):
    """An object as the api wrote it. Without a field that it must have it is none of ours: `LeasingError`."""

    url = ""

    def __missing__(self, _: str) -> Any:
        raise stranger(self.url)


class Transport:
    """One server, one token. Raises `Invalid` for an address or a token that can be none."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.url = credentials.url.rstrip("/")
        self.token = credentials.token
        if not self.url.startswith(("http://", "https://")):
            raise _no_address(self.url)
        self.verify = tls_context(self.url, credentials.fingerprint)
        try:
            self.http = httpx.Client(
                base_url=f"{self.url}/api/v1",
                headers=_headers(credentials.token),
                timeout=TIMEOUT,
                # reading the machine's certificate authorities takes longer than a call, and plain HTTP needs none
                verify=self.verify if self.url.startswith("https://") else False,
            )
        except httpx.InvalidURL as error:
            raise _no_address(self.url) from error
        except UnicodeEncodeError as error:
            raise errors.Invalid(
                "The token holds a character that no token has.", hint="Sign in again: lease login LINK"
            ) from error

    def revoke(self, path: str) -> bool:
        """Delete what lets somebody in. Whether no gateway lets them in any more; if not, it is soon so everywhere."""
        with self._reaching():
            answer = self.http.delete(path)
        raise_for(answer)
        return bool(answer.headers.get("X-Leasing-In-Force") != "pending")

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The answer's JSON (None for an empty one). Raises the platform's own errors."""
        with self._reaching():
            answer = self.http.request(method, path, **arguments)
        raise_for(answer)
        if not answer.content:
            return None
        try:
            found = answer.json(object_hook=self._answer)
        except ValueError as error:
            raise stranger(self.url) from error
        if not isinstance(found, Answer):
            raise stranger(self.url)
        return found

    def _answer(self, fields: dict[str, Any]) -> Answer:
        made = Answer(fields)
        made.url = self.url
        return made

    @contextmanager
    def stream(
        self, path: str, *, silence: float | None = None, **arguments: Any
    ) -> Iterator[httpx.Response]:
        """An answer that goes on. `Unavailable` once it is silent for `silence` seconds.

        Without those it may be silent for as long as the server's machine is there.
        """
        patience = httpx.Timeout(None, connect=5.0, read=silence)
        with self._reaching(), self.http.stream("GET", path, timeout=patience, **arguments) as answer:
            # on what came about, not in a transport of our own: with one, httpx looks for no proxy in the environment
            keep_alive(answer.extensions["network_stream"].get_extra_info("socket"))
            if not answer.is_success:
                answer.read()
            raise_for(answer)
            yield answer

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.InvalidURL as error:
            raise _no_address(self.url) from error
        except httpx.RequestError as error:
            if (refusal := _distrust(error)) is not None:
                raise errors.NotAllowed(
                    f"The certificate of {self.url} is not trusted here: {refusal}.",
                    hint=f"Sign in to look at it, and to accept it or not: lease login {self.url}",
                ) from error
            raise errors.Unavailable(
                f"{self.url} does not answer: {ERRNO.sub('', str(error)) or type(error).__name__}.",
                hint="Is it running? On the server: make run",
            ) from error

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def at(*parts: str) -> str:
    """A path below /api/v1, whatever people typed as a name. Raises `Invalid` for what can name nothing."""
    for part in parts:
        if part in ("", ".", ".."):
            raise errors.Invalid(f"{part!r} is not a name.", hint="lease ls shows the names of your leases.")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def raise_for(answer: httpx.Response) -> None:
    """Raise what a problem answer says, as the class it was on the server."""
    if answer.is_success:
        return
    fallback = BY_STATUS.get(answer.status_code, errors.LeasingError)
    try:
        problem = answer.json()
        code, detail, hint = problem["code"], problem["detail"], problem.get("hint")
    except (ValueError, KeyError, TypeError):
        raise fallback(
            f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}".rstrip() + ".",
            hint="If that goes on: is it the address of a Leasing server? lease whoami",
        ) from None
    raise errors.by_code().get(code, fallback)(detail, hint=hint)


def stranger(url: str) -> errors.LeasingError:
    """For an answer that is none of ours."""
    return errors.LeasingError(
        f"{url} does not answer as Leasing {__version__} understands it.",
        hint="Is it the address of a Leasing server, of this version? Compare: lease --version, and "
        f"{url}/openapi.json",
    )


def _headers(token: str) -> dict[str, str]:
    """Without a token, as at a sign-in by link, there is nothing to bring: an empty one is no valid header."""
    brought = {"Authorization": f"Bearer {token}"} if token else {}
    return brought | {"User-Agent": f"leasing/{__version__}"}


def _no_address(url: str) -> errors.Invalid:
    return errors.Invalid(
        f"{url[:80]!r} is not the address of a server.",
        hint="Write it like http://127.0.0.1:8080, in LEASING_URL or at lease login.",
    )


def tls_context(url: str, fingerprint: str | None) -> ssl.SSLContext | bool:
    """How to check the server's certificate: as this machine checks any (its own store, or SSL_CERT_FILE), or by the
    fingerprint that was accepted at sign-in.

    Raises `NotAllowed` when the server now shows another certificate than the accepted one.
    """
    if not url.startswith("https://"):
        return True
    if fingerprint is None:
        return ssl.create_default_context()
    certificate = server_certificate(url)
    shown = fingerprint_of(certificate)
    if shown != fingerprint:
        raise errors.NotAllowed(
            f"{url} shows another certificate than the one you accepted: its fingerprint is {shown}.",
            hint="Ask the server's admin whether it was changed; only if so, sign in anew: lease login LINK",
        )
    return pinned(certificate)


def pinned(certificate: str) -> ssl.SSLContext:
    """Believes that one certificate (PEM), whatever name it carries and whoever issued it, and no other."""
    context = ssl.create_default_context(cadata=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def fingerprint_of(certificate: str) -> str:
    """SHA-256 of a certificate (PEM), in hexadecimal."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()


def server_certificate(url: str) -> str:
    """The certificate (PEM) a server shows. Raises `Unavailable`."""
    parts = urlsplit(url)
    try:
        return ssl.get_server_certificate((parts.hostname or "", parts.port or 443), timeout=5.0)
    except OSError as error:
        raise errors.Unavailable(f"{url} does not answer: {error}.") from error


def _distrust(error: BaseException | None) -> str | None:
    """Why the certificate was refused, if that is what is behind the error."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message)
        error = error.__cause__ or error.__context__
    return None
