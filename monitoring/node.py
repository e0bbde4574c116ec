"""The sampler's process: sample, report, serve; it executes nothing, and nothing can be asked of it but its metrics."""

from __future__ import annotations

import hmac
import logging
import random
import ssl
import threading
import time
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from prometheus_client import CollectorRegistry, generate_latest

from leasing.schema.report import NodeReport, ReportAccepted
from leasing.sdk.transport import pinned
from leasing.settings.node import NodeSettings
from monitoring.cgroups import Cgroups
from monitoring.exposition import registry
from monitoring.machine import MachineReader
from monitoring.nvml import Nvml
from monitoring.sampler import Sampler

log = logging.getLogger(__name__)
FIRST_PAUSE, MAX_PAUSE = 0.25, 30.0
SOON_SECONDS = 0.5
"""Pause while a device waits for the proof that it is clean."""
DRIFT = 0.001
"""More than two machines' clocks differ in speed."""


class DatabaseClock:
    """The database's clock as far as it is certain here: what the last answer said, and what went by since.

    The answer's way here is not counted, so it is behind by that, and never ahead (F. Cristian, Probabilistic clock
    synchronization, 1989, with the bound on one side only).
    """

    def __init__(self) -> None:
        self._heard: tuple[datetime, float] | None = None

    def heard(self, at: datetime | None) -> None:
        """An answer that says what the clock was has just come."""
        self._heard = None if at is None else (at, time.monotonic())

    def passed(self) -> datetime | None:
        """What the clock has reached by now; None as long as there was no answer."""
        if self._heard is None:
            return None
        at, steady = self._heard
        return at + timedelta(seconds=(time.monotonic() - steady) * (1 - DRIFT))


class Node:
    """Samples and reports until told to stop. An api that is away changes nothing about sampling."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._sampler = Sampler(
            Nvml(settings.nvml_library),
            Cgroups(),
            MachineReader(),
            metrics_address=f"{settings.listen}:{settings.port}",
        )
        self._last: NodeReport | None = None
        self._clock = DatabaseClock()
        self._failing = ""
        self._failures = 0

    def run(self, stop: threading.Event) -> None:
        server = _serve(self._settings, registry(self._settings.name, lambda: self._last))
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        expected = self._settings.api_certificate
        verify = ssl.create_default_context() if expected is None else pinned(expected.read_text())
        try:
            with httpx.Client(
                base_url=self._settings.api, timeout=5.0, verify=verify, trust_env=False
            ) as client:
                while not stop.is_set():
                    self._last = self._sampler.sample(self._clock.passed())
                    pause = self._report(client, self._last)
                    stop.wait(pause)
        finally:
            server.shutdown()
            server.server_close()
            self._sampler.close()

    def _report(self, client: httpx.Client, report: NodeReport) -> float:
        """Send it; how long to wait before the next."""
        try:
            token = self._settings.token_file.read_text().strip()
            answer = client.post(
                f"/api/v1/nodes/{self._settings.name}/report",
                content=report.model_dump_json(),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            answer.raise_for_status()
            accepted = ReportAccepted.model_validate_json(answer.content)
            self._clock.heard(accepted.at)
        except (httpx.HTTPError, OSError) as error:
            self._failures += 1
            said = f"{type(error).__name__}: {error}"
            if said != self._failing:
                log.warning("report not taken error=%s", said)
            self._failing = said
            return retry_pause(self._failures) * random.uniform(0.8, 1.2)
        if self._failures:
            log.info("reports are taken again after=%d", self._failures)
        self._failing, self._failures = "", 0
        pause: float = max(accepted.interval_seconds, self._settings.interval_seconds)
        return min(pause, SOON_SECONDS) if accepted.soon else pause


def retry_pause(failures: int) -> float:
    """Seconds until the next report, after so many that were not taken.

    Short at first: mostly the api is just starting, and a platform is up only once its nodes have reported.
    """
    return float(min(MAX_PAUSE, FIRST_PAUSE * 1.5 ** min(failures - 1, 20)))


def run(settings: NodeSettings, stop: threading.Event) -> None:
    """The process, until `stop`."""
    Node(settings).run(stop)


def _serve(settings: NodeSettings, metrics: CollectorRegistry) -> ThreadingHTTPServer:
    token = settings.metrics_token_file

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name for it
            if self.path == "/healthz":
                self._answer(200, b"up\n")
            elif self.path != "/metrics":
                self._answer(404, b"there is /metrics and /healthz\n")
            elif not self._allowed():
                self._answer(401, b"bring the metrics token\n")
            else:
                self._answer(200, generate_latest(metrics), "text/plain; version=0.0.4; charset=utf-8")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            log.debug(format, *args)

        def _allowed(self) -> bool:
            if token is None:
                return True
            wanted = f"Bearer {token.read_text().strip()}".encode()
            return hmac.compare_digest(self.headers.get("Authorization", "").encode(), wanted)

        def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer((settings.listen, settings.port), Handler)
