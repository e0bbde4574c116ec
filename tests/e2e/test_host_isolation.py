"""What a lease's container cannot reach, tried from inside one on the real engine."""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest

from leasing import names
from leasing.drivers.docker import DockerDriver
from leasing.drivers.protocol import LABEL_INSTALLATION, LABEL_ROLE, Container
from leasing.drivers.spec import SANDBOX, LeaseFacts, build
from leasing.host import firewall
from leasing.host.firewall import State
from leasing.host.firewall_rules import FORWARD
from leasing.settings.docker import DockerSettings
from leasing.settings.firewall import FirewallSettings
from tests.support.images import BUSYBOX, ensure_busybox
from tests.support.network import OwnNetwork

pytestmark = [
    pytest.mark.docker,
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may set the firewall"),
]

PAGE = "mkdir /tmp/www; echo hello > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www"


@dataclass
class Leases:
    """Two leases' containers, each with a page on port 8000."""

    driver: DockerDriver
    ours: Container
    other: Container

    def connect(self, address: str, port: int) -> str:
        """What came of a connection from inside ours; it is given up after 5 s."""
        script = f"echo hi | nc -w 5 {address} {port} 2>&1; echo exit=$?"
        stream = self.driver.exec(self.ours.id, ["sh", "-c", script], tty=False)
        try:
            return b"".join(iter(stream.read, b"")).decode()
        finally:
            stream.close()


@pytest.fixture(scope="module", params=["own network", "sandbox"])
def leases(request: pytest.FixtureRequest) -> Iterator[Leases]:
    ensure_busybox()
    found = firewall.ensure(FirewallSettings())
    assert found.state is State.APPLIED, found.detail
    settings, installation = DockerSettings(), secrets.token_hex(4)
    driver = DockerDriver("", settings)

    def up() -> Container:
        sandbox = None
        if request.param == "sandbox":
            key, labels = uuid4(), {LABEL_INSTALLATION: installation, LABEL_ROLE: SANDBOX}
            sandbox = driver.sandbox(names.warm(installation, key), names.bridge(key), labels).name
        facts = LeaseFacts(
            lease_id=uuid4(), name="isolation", owner="ada", installation=installation, generation=1, image=BUSYBOX,
            command=("sh", "-c", PAGE), env={}, cpus=0.2, memory_bytes=2**26, shm_bytes=None, device_uuids=(),
            workspace=None, sandbox=sandbox,
        )  # fmt: skip
        image = driver.find_image(BUSYBOX)
        assert image is not None
        return driver.start(driver.create(build(facts, image, settings)).id)

    yield Leases(driver, up(), up())
    for container in driver.containers(installation):
        driver.remove(container.id, network=None)
    for network in driver.networks(installation):
        driver.remove_network(network)
    driver.close()


@pytest.fixture
def listener() -> Iterator[tuple[int, threading.Event]]:
    """A port open on every address of this machine, and whether anybody came."""
    with socket.create_server(("0.0.0.0", 0)) as server, accepting(server) as came:
        yield server.getsockname()[1], came


@contextmanager
def accepting(server: socket.socket) -> Iterator[threading.Event]:
    """Take connections and close them at once; set when one came."""
    came = threading.Event()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            came.set()
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield came
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def page(container: Container) -> str:
    with urllib.request.urlopen(f"http://{container.address}:8000/", timeout=5) as answer:
        return str(answer.read().decode())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        time.sleep(0.05)


def answers(container: Container) -> bool:
    try:
        return page(container) == "hello\n"
    except OSError:
        return False


def hosts_own_addresses() -> dict[str, str]:
    listed = subprocess.check_output(["ip", "-4", "-br", "address"], text=True)
    return {
        name.partition("@")[0]: address
        for name, address in re.findall(r"^(\S+)\s+\S+\s+([\d.]+)/", listed, re.MULTILINE)
        if not address.startswith("127.")
    }


def refusals(network: str) -> int:
    """Packets that the forwarding rule for that range has refused so far."""
    listed = subprocess.check_output(["iptables", "-w", "-nvxL", FORWARD], text=True)
    found = re.search(rf"^\s*(\d+)\s+\d+\s+LEASING-DENY\s.*\s{re.escape(network)}\s", listed, re.MULTILINE)
    assert found is not None, listed
    return int(found[1])


def test_this_machine_reaches_a_container_and_its_answers_come_back(leases: Leases) -> None:
    until(lambda: answers(leases.ours))
    until(lambda: answers(leases.other))


def test_a_container_reaches_no_address_of_this_machine(
    leases: Leases, listener: tuple[int, threading.Event]
) -> None:
    port, came = listener
    own = hosts_own_addresses()
    bridge = next(name for name in own if name.startswith("lsg"))
    assert {"docker0", bridge} <= own.keys(), "its gateways are among them"
    for address in own.values():
        said = leases.connect(address, port)
        assert "Connection refused" in said, f"{address} is refused, not left to time out: {said}"
    assert not came.is_set()


def test_a_container_reaches_no_other_lease(leases: Leases) -> None:
    until(lambda: answers(leases.other))
    assert leases.other.address is not None
    said = leases.connect(leases.other.address, 8000)
    assert "exit=0" not in said


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("169.254.169.254", "169.254.0.0/16"),
        ("192.168.13.37", "192.168.0.0/16"),
        ("100.100.100.200", "100.64.0.0/10"),
    ],
)
def test_metadata_and_private_ranges_are_refused_by_our_rule(
    leases: Leases, address: str, network: str
) -> None:
    before = refusals(network)
    said = leases.connect(address, 80)
    assert "Connection refused" in said
    assert refusals(network) > before


@pytest.fixture
def internet() -> Iterator[str]:
    """An address outside every private range, behind a link of this machine's: a stand-in for the internet."""
    outside, link = OwnNetwork(), f"test{secrets.token_hex(4)}"

    def join(pid: int) -> socket.socket:
        for command in (
            f"link add inside type veth peer name {link} netns {pid}",
            "address add 198.51.100.1/30 dev inside",
            "link set inside up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        return socket.create_server(("198.51.100.1", 80))

    server = outside(join, os.getpid())
    try:
        subprocess.run(["ip", "address", "add", "198.51.100.2/30", "dev", link], check=True)
        subprocess.run(["ip", "link", "set", link, "up"], check=True)
        with server, accepting(server):
            yield "198.51.100.1"
    finally:
        subprocess.run(["ip", "link", "delete", link], check=True)
        outside.close()


def test_a_container_reaches_the_internet(leases: Leases, internet: str) -> None:
    said = leases.connect(internet, 80)
    assert "refused" not in said
    assert "exit=0" in said
