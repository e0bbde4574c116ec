"""A platform for a team: TLS on every port, certificates of our own and given ones, and signing in from elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api import certificate
from leasing.errors import HostError
from leasing.settings.core import CoreSettings
from tests.support import certificates
from tests.support.images import BUSYBOX, ensure_busybox
from tests.support.stack import LEASE, Stack, running, until

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]
SMALL = ("--cpus", "0.1", "--memory", "64M", "--image", BUSYBOX)


@dataclass
class Person:
    """Somebody on a machine of their own: no setting of the server's, and their own folder."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *words: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [LEASE, *words], env=self.environment, capture_output=True, text=True, input=text, check=False, timeout=60
        )  # fmt: skip
        assert not check or done.returncode == 0, f"lease {' '.join(words)}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    @property
    def stored(self) -> list[Path]:
        return list(self.folder.rglob("*.json"))


@pytest.fixture(scope="module")
def team() -> Iterator[Stack]:
    ensure_busybox()
    with running({"LEASING_LISTEN": "0.0.0.0"}) as made:
        yield made


@pytest.fixture
def person(team: Stack, tmp_path: Path) -> Person:
    plain = {name: value for name, value in team.environment.items() if not name.startswith("LEASING_")}
    return Person(tmp_path / "config", plain | {"LEASING_CONFIG_DIR": str(tmp_path / "config")})


@pytest.fixture
def link(team: Stack) -> str:
    return new_link(team)


def new_link(team: Stack) -> str:
    """As an admin sends it."""
    kept = json.loads((Path(team.environment["LEASING_CONFIG_DIR"]) / "credentials.json").read_text())
    with browser(team) as client:
        made = client.post(
            "/api/v1/users/admin/signin-link", headers={"Authorization": f"Bearer {kept['token']}"}
        )
    return str(made.json()["url"])


def address(team: Stack) -> str:
    return f"https://127.0.0.1:{team.environment['LEASING_PORT']}"


def shown(team: Stack, port: str = "LEASING_PORT") -> str:
    """The fingerprint of what a port shows to whoever calls."""
    pem = ssl.get_server_certificate(("127.0.0.1", int(team.environment[port])), timeout=5)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def browser(team: Stack) -> httpx.Client:
    """One whose user has clicked the warning away."""
    return httpx.Client(base_url=address(team), verify=False)


@contextmanager
def serving(team: Stack, **settings: str) -> Iterator[None]:
    """Started anew with other settings (empty: without), and then again with its own."""
    before = dict(team.environment)
    team.stop()
    team.environment |= settings
    for name, value in settings.items():
        if not value:
            del team.environment[name]
    try:
        team.start()
        yield
    finally:
        team.stop()
        team.environment.clear()
        team.environment |= before
        team.start()


def test_every_port_has_the_certificate_that_the_server_printed(team: Stack) -> None:
    found = re.search(r"fingerprint: ([0-9a-f]{64})", team.log)
    assert found is not None
    assert {shown(team), shown(team, "LEASING_GATEWAY_PORT")} == {found[1]}
    with browser(team) as client:
        assert "Sign in" in client.get("/signin").text
        assert client.get("/readyz").status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{team.url}/healthz")
    key = Path(team.environment["LEASING_STATE_DIR"]) / "tls.key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_the_server_says_how_others_reach_it(team: Stack) -> None:
    assert "LEASING_PUBLIC_HOST" in team.log


def test_a_link_made_on_the_server_is_the_address_it_serves(team: Stack) -> None:
    """It was started by `--listen`, which the shell of another command knows nothing of."""
    environment = {name: value for name, value in team.environment.items() if name != "LEASING_LISTEN"}
    said = subprocess.run(
        [LEASE, "admin", "signin-link"], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith(f"{address(team)}/signin?secret="), said


def test_no_to_the_fingerprint_stores_nothing_and_leaves_the_link_good(
    team: Stack, person: Person, link: str
) -> None:
    for answer, code in (("n\n", 1), ("", 130)):
        refused = person("login", link, text=answer, check=False)
        assert refused.returncode == code
        assert shown(team) in refused.stderr
        assert person.stored == []
    assert "signed in" in person("login", link, text="y\n").stdout
    assert json.loads(person.stored[0].read_text())["fingerprint"] == shown(team)
    assert person.stored[0].stat().st_mode & 0o777 == 0o600


def test_a_fingerprint_that_is_known_is_not_asked_about(team: Stack, person: Person, link: str) -> None:
    wrong = person("login", link, "--fingerprint", "ab" * 32, check=False)
    assert wrong.returncode == 1
    assert "another certificate" in wrong.stderr
    assert person.stored == []
    colons = ":".join(re.findall("..", shown(team))).upper()
    assert "signed in" in person("login", link, "--fingerprint", colons).stdout


def test_every_command_works_over_it(team: Stack, person: Person, link: str) -> None:
    person("login", link, text="y\n")
    page = "mkdir /tmp/www; echo hello > /tmp/www/index.html; echo ready; exec httpd -f -p 8000 -h /tmp/www"
    up = person("up", "secured", *SMALL, "--port", "8000", "--", "sh", "-c", page)
    endpoint = f"https://127.0.0.1:{team.environment['LEASING_GATEWAY_PORT']}/l/secured/"
    assert endpoint in up.stdout
    assert "secured" in person("ls").stdout
    ran = person("exec", "secured", "--", "sh", "-c", "cat; exit 7", text="through TLS", check=False)
    assert (ran.returncode, ran.stdout) == (7, "through TLS")

    headers = {"Authorization": f"Bearer {person('token').stdout.strip()}"}
    with httpx.Client(verify=False, headers=headers) as client:
        until(lambda: client.get(endpoint).status_code == 200, what="the endpoint's answer")
    script = "from leasing import Client; print(Client().lease('secured').endpoint().get('').text)"
    python = str(Path(LEASE).parent / "python")
    sdk = subprocess.run(
        [python, "-c", script], env=person.environment, capture_output=True, text=True, check=False
    )
    assert sdk.stdout == "hello\n\n", sdk.stderr

    followed = subprocess.Popen(
        [LEASE, "logs", "-f", "secured"], env=person.environment, stdout=subprocess.PIPE, text=True
    )
    assert followed.stdout is not None
    assert followed.stdout.readline() == "ready\n"
    watched = subprocess.Popen(
        [LEASE, "events", "-f", "secured"], env=person.environment, stdout=subprocess.PIPE, text=True
    )
    person("release", "secured")
    assert "released" in watched.communicate(timeout=30)[0]
    followed.communicate(timeout=30)
    assert (followed.returncode, watched.returncode) == (0, 0)


def test_cookies_travel_over_tls_only(team: Stack, link: str) -> None:
    with browser(team) as client:
        secret = link.partition("secret=")[2]
        answer = client.post("/signin", data={"secret": secret}, headers={"Origin": address(team)})
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
    assert "leasing_session=" in cookie
    assert {"Secure", "HttpOnly"} <= {part.strip() for part in cookie.split(";")}


def test_a_script_s_own_address_and_token_use_what_was_accepted(
    team: Stack, person: Person, link: str
) -> None:
    person("login", link, text="y\n")
    token = person("token").stdout.strip()
    person.environment |= {"LEASING_URL": address(team), "LEASING_TOKEN": token}
    assert "admin" in person("whoami").stdout
    own = Path(team.environment["LEASING_STATE_DIR"]) / "tls.crt"
    person.environment |= {"LEASING_CONFIG_DIR": str(person.folder / "empty")}
    refused = person("whoami", check=False)
    assert refused.returncode == 1
    assert "not trusted" in refused.stderr
    assert "lease login" in refused.stderr
    person.environment |= {"SSL_CERT_FILE": str(own)}
    assert "admin" in person("whoami").stdout


@pytest.mark.parametrize("url", ["http://leasing.example:8080/signin?secret=x", "http://10.1.2.3:8080"])
def test_plain_http_to_another_machine_is_refused(person: Person, url: str) -> None:
    refused = person("login", url, "--token", "x", check=False)
    assert refused.returncode == 2, "not tried"
    assert "https://" in refused.stderr
    assert person.stored == []


def test_a_given_certificate_is_served_and_our_own_is_kept(
    team: Stack, person: Person, link: str, tmp_path: Path
) -> None:
    """And a changed one is never taken for the one that was accepted."""
    person("login", link, text="y\n")
    own = shown(team)
    given = certificates.issue(tmp_path / "given")
    with serving(team, LEASING_LISTEN="", SSL_CERT_FILE=str(given.authority), **given.settings):
        pem = ssl.PEM_cert_to_DER_cert(given.certificate.read_text())
        expected = hashlib.sha256(pem).hexdigest()
        assert {shown(team), shown(team, "LEASING_GATEWAY_PORT")} == {expected}
        for command in (("ls",), ("up", "x", *SMALL), ("exec", "x", "--", "true")):
            refused = person(*command, check=False)
            assert refused.returncode == 1
            assert "another certificate" in refused.stderr
            assert "lease login" in refused.stderr
        assert "admin" in team.lease("whoami").stdout  # the server's own command line

        # a stranger to the authority is asked, and what they accept is enough
        other = Person(
            tmp_path / "other", person.environment | {"LEASING_CONFIG_DIR": str(tmp_path / "other")}
        )
        assert expected in other("login", new_link(team), text="y\n").stderr
        assert "admin" in other("whoami").stdout
        # who trusts the authority is not asked
        other.environment |= {"SSL_CERT_FILE": str(given.authority)}
        assert "fingerprint" not in other("login", new_link(team)).stderr
        assert json.loads(other.stored[0].read_text())["fingerprint"] is None
        assert "admin" in other("whoami").stdout
    assert shown(team) == own
    assert "admin" in person("whoami").stdout


def test_our_own_certificate_is_made_anew_when_it_must(tmp_path: Path) -> None:
    settings = CoreSettings(state_dir=tmp_path, listen="0.0.0.0", public_host="a.example")
    first = certificate.fingerprint(certificate.ensure(settings)[0])
    assert certificate.fingerprint(certificate.ensure(settings, renew=True)[0]) == first
    moved = CoreSettings(state_dir=tmp_path, listen="0.0.0.0", public_host="b.example")
    assert certificate.fingerprint(certificate.ensure(moved)[0]) == first, "only the first process renews"
    second = certificate.fingerprint(certificate.ensure(moved, renew=True)[0])
    assert second != first
    ending = certificates.issue(tmp_path / "ending", ends=20 * certificates.DAY)
    ending.certificate.replace(tmp_path / "tls.crt")
    ending.key.replace(tmp_path / "tls.key")
    assert certificate.fingerprint(certificate.ensure(moved, renew=True)[0]) not in (first, second)
    (tmp_path / "tls.key").write_text("cut sho")
    certificate.ensure(moved, renew=True)
    certificate.check(moved)
    assert "PRIVATE KEY" in (tmp_path / "tls.key").read_text()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("no key", "LEASING_TLS_KEY is missing"),
        ("no certificate", "LEASING_TLS_CERTIFICATE is missing"),
        ("no file", "cannot be read"),
        ("a letter", "is not a certificate"),
        ("a letter for a key", "is not a private key"),
        ("another key", "is not the key of"),
        ("locked key", "passphrase"),
        ("over", "ended on"),
        ("too early", "begins only on"),
    ],
)
def test_a_certificate_that_cannot_serve_is_refused(tmp_path: Path, harm: str, said: str) -> None:
    day = certificates.DAY
    given = certificates.issue(
        tmp_path, begins=day if harm == "too early" else -2 * day, ends=-day if harm == "over" else 2 * day
    )
    settings = CoreSettings(tls_certificate=given.certificate, tls_key=given.key)
    certificate.check(CoreSettings())
    match harm:
        case "no key":
            settings.tls_key = None
        case "no certificate":
            settings.tls_certificate = None
        case "no file":
            given.key.unlink()
        case "a letter":
            given.certificate.write_text("Dear browser,")
        case "a letter for a key":
            given.key.write_text("Dear server,")
        case "another key":
            given.key.write_bytes(certificates.issue(tmp_path / "other").key.read_bytes())
        case "locked key":
            certificates.locked(given, b"secret")
    with pytest.raises(HostError, match=said):
        certificate.check(settings)


def test_it_is_refused_before_anything_is_started(team: Stack, tmp_path: Path) -> None:
    given = certificates.issue(tmp_path, ends=-certificates.DAY / 2)
    state = {"LEASING_STATE_DIR": str(tmp_path / "state")}
    refused = subprocess.run(
        [LEASE, "serve"], env=team.environment | given.settings | state, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Error: {given.certificate} (LEASING_TLS_CERTIFICATE) ended on")
    assert not (tmp_path / "state").exists()
