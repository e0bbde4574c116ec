"""What the benchmarks of ready starts share: an image whose server answers at once, and the same started by hand."""

from __future__ import annotations

import contextlib
import http.client
import io
import math
import shutil
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import docker
import httpx
from docker.types import IPAMConfig, IPAMPool

from images.catalogue import load
from leasing.drivers.spec import HOME
from leasing.host.postgres import running_url
from tests.benchmarks.start import Watch
from tests.support.stack import Stack, running, until

IMAGE = "leasing-bench/served:1"
PORT, CPUS, MEMORY = 8000, 0.2, 64 * 2**20
FILE = f"""FROM {load()["base"].reference}
COPY busybox /usr/local/bin/busybox
RUN ["/usr/local/bin/busybox", "sh", "-c", "echo hello > {HOME}/index.html"]
CMD ["busybox", "httpd", "-f", "-p", "{PORT}", "-h", "{HOME}"]
"""
LABEL = {"leasing-bench": "1"}


def ensure_image(client: docker.APIClient) -> None:
    """The base environment with a server of a few kilobytes: what a start takes is not to drown in its program's."""
    found = shutil.which("busybox")
    assert found is not None, "python -m leasing.host setup --for-tests installs it"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content, mode in (
            ("Dockerfile", FILE.encode(), 0o644),
            ("busybox", Path(found).read_bytes(), 0o755),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    data.seek(0)
    for line in client.build(fileobj=data, custom_context=True, tag=IMAGE, decode=True, rm=True):
        assert "error" not in line, line


def network(client: docker.APIClient, number: int) -> str:
    """A lease's network, made by hand."""
    name = f"leasing-bench-{uuid.uuid4().hex[:12]}"
    client.create_network(
        name, driver="bridge", ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=f"10.214.{number % 250}.0/28")]),
        options={"com.docker.network.bridge.enable_icc": "false"},
    )  # fmt: skip
    return name


def fitting(client: docker.APIClient, count: int) -> float:
    """The CPUs each of so many may have, for all to run on this engine at one time."""
    return min(CPUS, math.floor(100 * int(client.info()["NCPU"]) / count) / 100)


def container(client: docker.APIClient, mode: str, cpus: float = CPUS) -> str:
    """A lease's container, made by hand and started."""
    host = client.create_host_config(
        network_mode=mode, nano_cpus=round(cpus * 1e9), mem_limit=MEMORY, memswap_limit=MEMORY, pids_limit=4096,
        init=True, cap_drop=["ALL"], security_opt=["no-new-privileges"],
    )  # fmt: skip
    made = client.create_container(IMAGE, user="1000:1000", host_config=host, labels=LABEL)["Id"]
    client.start(made)
    return str(made)


def address(client: docker.APIClient, made: str) -> str:
    networks = client.inspect_container(made)["NetworkSettings"]["Networks"]
    return str(next(iter(networks.values()))["IPAddress"])


def first_byte(host: str, path: str = "/", port: int = PORT, token: str | None = None) -> None:
    """Return when its server's first byte is here."""
    deadline = time.perf_counter() + 60
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    while True:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            if answer.status == 200 and answer.read(1):
                return
        except OSError:
            pass
        finally:
            connection.close()
        assert time.perf_counter() < deadline, f"nothing answers at {host}"
        time.sleep(0.001)


def clear(client: docker.APIClient, pool: ThreadPoolExecutor) -> None:
    """Nothing made by hand is left."""
    found = client.containers(all=True, filters={"label": "leasing-bench"})
    list(pool.map(lambda one: client.remove_container(one["Id"], force=True), found))
    for one in client.networks(names=["leasing-bench-"]):
        with contextlib.suppress(docker.errors.NotFound):
            client.remove_network(one["Id"])


class Platform:
    """The platform under measurement, and one user of it."""

    def __init__(self, stack: Stack, api: httpx.Client, watch: Watch, token: str) -> None:
        self.stack, self.api, self._watch, self._token = stack, api, watch, token
        self._gateway = httpx.URL(stack.gateway)

    def served(self, cpus: float, _: int) -> None:
        """From POST to the first byte through the gateway."""
        body = {"image": IMAGE, "cpus": str(cpus), "memory": f"{MEMORY}", "gpu": "0", "port": PORT}
        lease = self.api.post("/leases", json=body).raise_for_status().json()
        self._watch.wait(lease["id"])
        first_byte(self._gateway.host, f"/l/{lease['name']}/", self._gateway.port or 80, self._token)

    def empty(self) -> None:
        """Everything was released, and is gone."""
        for lease in self.api.get("/leases", params={"limit": 200}).json()["items"]:
            self.api.delete(f"/leases/{lease['id']}")
        until(
            lambda: self.api.get("/leases").json()["items"] == [] and not self.stack.containers(),
            what="the end of all", seconds=120,
        )  # fmt: skip

    def ready(self, role: str, count: int) -> None:
        """Wait until so many are ready."""

        def there() -> bool:
            rows = self.api.get("/warm").raise_for_status().json()["items"]
            found = [int(one["count"]) for one in rows if (one["role"], one["state"]) == (role, "ready")]
            return sum(found) >= count

        until(there, what=f"{count} of {role}", seconds=180, every=0.25)


@contextmanager
def platform(settings: dict[str, str]) -> Iterator[Platform]:
    """One for the length of a benchmark."""
    common = {"LEASING_LIMITS_LEASES_PER_USER": "500"}
    with running(common | settings) as stack, httpx.Client(base_url=f"{stack.url}/api/v1", timeout=60) as api:
        token = stack.lease("token").stdout.strip()
        api.headers["Authorization"] = f"Bearer {token}"
        url = running_url(Path(stack.environment["LEASING_STATE_DIR"]))
        assert url is not None
        watch = Watch(url)
        try:
            yield Platform(stack, api, watch, token)
        finally:
            watch.close()


def together(pool: ThreadPoolExecutor, count: int, act: Callable[[int], object]) -> float:
    """Seconds until all of so many, begun at once, were done."""
    begin = threading.Barrier(count + 1)

    def one(number: int) -> None:
        begin.wait()
        act(number)

    work = [pool.submit(one, number) for number in range(count)]
    begin.wait()
    began = time.perf_counter()
    for each in work:
        each.result()
    return time.perf_counter() - began


def each(act: Callable[[str], object], made: Sequence[str], number: int) -> None:
    """What `together` does with one of what was made."""
    act(made[number])
