"""The firewall's rules and how tables are brought to them; the kernel's own word is in the other suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from leasing.errors import Invalid
from leasing.host.firewall import repair
from leasing.host.firewall_rules import DENY, FORWARD, INPUT, name_servers, rules

WANTED = {INPUT: [f"-A {INPUT} -i lsg+ -j REJECT"], FORWARD: [f"-A {FORWARD} -i lsg+ -j REJECT"]}
HOOKED = {
    "INPUT": [f"-A INPUT -j {INPUT}", "-A INPUT -j ufw"],
    "FORWARD": ["-A FORWARD -j DOCKER-USER"],
    "DOCKER-USER": [f"-A DOCKER-USER -j {FORWARD}", "-A DOCKER-USER -j RETURN"],
}


def test_nothing_is_done_where_all_is_in_place() -> None:
    assert repair({**HOOKED, **WANTED}, WANTED) == []


def test_rules_that_another_hand_changed_are_replaced_whole() -> None:
    changed = {**HOOKED, **WANTED, INPUT: [*WANTED[INPUT], f"-A {INPUT} -j ACCEPT"]}
    assert repair(changed, WANTED) == [f":{INPUT} - [0:0]", f"-F {INPUT}", *WANTED[INPUT]]


def test_a_jump_that_others_got_in_front_of_moves_back_without_piling_up() -> None:
    jump = f"-A INPUT -j {INPUT}"
    overtaken = {**HOOKED, **WANTED, "INPUT": ["-A INPUT -j ufw", jump, jump]}
    assert repair(overtaken, WANTED) == [f"-D INPUT -j {INPUT}"] * 2 + [f"-I INPUT 1 -j {INPUT}"]


def test_the_forward_chain_itself_is_guarded_until_the_engine_has_its_own() -> None:
    before = {"INPUT": [f"-A INPUT -j {INPUT}"], "FORWARD": [], **WANTED}
    assert repair(before, WANTED) == [f"-I FORWARD 1 -j {FORWARD}"]
    after = {
        **before,
        "FORWARD": ["-A FORWARD -j DOCKER-USER", f"-A FORWARD -j {FORWARD}"],
        "DOCKER-USER": ["-A DOCKER-USER -j RETURN"],
    }
    assert repair(after, WANTED) == [
        f"-I DOCKER-USER 1 -j {FORWARD}",
        f"-D FORWARD -j {FORWARD}",
    ]


def test_an_exception_comes_before_the_ranges_that_hold_it() -> None:
    made = rules("10.1.2.3:3128, 192.168.7.0/24", ["10.0.0.53"])
    forward = made[FORWARD]
    denied = forward.index(f"-A {FORWARD} -d 10.0.0.0/8 -i lsg+ -j {DENY}")
    proxy = "-d 10.1.2.3/32 -i lsg+ -p tcp -m tcp --dport 3128 -j RETURN"
    for rule in (
        proxy,
        "-d 192.168.7.0/24 -i lsg+ -j RETURN",
        "-d 10.0.0.53/32 -i lsg+ -p udp -m udp --dport 53 -j RETURN",
    ):
        assert forward.index(f"-A {FORWARD} {rule}") < denied
    assert f"-A {INPUT} {proxy}" in made[INPUT], "the proxy may run on this very machine"
    assert not any("192.168.7.0" in rule for rule in made[INPUT]), "a network never opens this machine"
    assert made[INPUT][-1] == f"-A {INPUT} -i lsg+ -j {DENY}"


@pytest.mark.parametrize(
    "text", ["proxy.example:3128", "10.0.0.1:http", "10.0.0.1:0", "10.0.0.0/33", "10.1:"]
)
def test_an_exception_that_makes_no_sense_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(Invalid, match="LEASING_FIREWALL_ALLOW"):
        rules(text, [])


def test_name_servers_are_those_the_engine_hands_to_containers(tmp_path: Path) -> None:
    stub, real, daemon = tmp_path / "stub", tmp_path / "real", tmp_path / "daemon.json"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    real.write_text(
        "# by systemd\nnameserver 192.168.1.1 # router\nnameserver fe80::1%eth0\nnameserver 192.168.1.1\n"
    )
    daemon.write_text('{"dns": ["10.9.9.9"]}')
    assert name_servers([stub, real], daemon) == ["192.168.1.1", "10.9.9.9"]
    assert name_servers([tmp_path / "absent"], tmp_path / "absent") == []
