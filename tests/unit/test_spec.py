"""What the engine is told about a lease's container."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from leasing.drivers import spec
from leasing.drivers.protocol import Image, Mount
from leasing.drivers.spec import LeaseFacts, build
from leasing.settings.docker import DockerSettings

FACTS = LeaseFacts(
    lease_id=UUID("0123456789abcdef0123456789abcdef"), name="train", owner="ada", installation="deadbeef", generation=3,
    image="some/image:1", command=None, env={}, cpus=1.5, memory_bytes=2**30, shm_bytes=None, device_uuids=(),
    workspace=None,
)  # fmt: skip
IMAGE = Image(id="sha256:1", tags=(), size_bytes=1, created_at=datetime(2026, 1, 1, tzinfo=UTC), labels={})
SETTINGS = DockerSettings()


def test_names_and_labels_follow_from_the_lease() -> None:
    made = build(FACTS, IMAGE, SETTINGS)
    assert made.name == "leasing-deadbeef-0123456789ab-3"
    assert made.network == "leasing-deadbeef-0123456789ab"
    assert made.bridge == "lsg0123456789ab"
    assert made.labels == {
        "leasing.installation": "deadbeef",
        "leasing.role": "lease",
        "leasing.lease": "01234567-89ab-cdef-0123-456789abcdef",
        "leasing.name": "train",
        "leasing.owner": "ada",
    }
    assert build(FACTS, IMAGE, SETTINGS) == made


def test_the_user_is_never_root() -> None:
    made = build(FACTS, IMAGE, SETTINGS)
    assert (made.user, made.home, made.working_dir) == ("1000:1000", "/home/lease", "/workspace")


def test_without_a_gpu_none_is_visible_whatever_the_user_says() -> None:
    made = build(replace(FACTS, env={"NVIDIA_VISIBLE_DEVICES": "all"}), IMAGE, SETTINGS)
    assert made.environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert made.device_uuids == ()


def test_with_gpus_the_engine_names_them() -> None:
    made = build(replace(FACTS, device_uuids=["GPU-1", "GPU-2"]), IMAGE, SETTINGS)
    assert made.device_uuids == ("GPU-1", "GPU-2")
    assert "NVIDIA_VISIBLE_DEVICES" not in made.environment


def test_the_user_s_variables_win_over_defaults_and_never_over_the_lease_s_own() -> None:
    settings = DockerSettings(https_proxy="http://proxy:3128")
    env = {"https_proxy": "http://mine:1", "LEASE_NAME": "forged", "A": "b"}
    made = build(replace(FACTS, env=env), IMAGE, settings).environment
    assert (made["A"], made["https_proxy"], made["HTTPS_PROXY"]) == (
        "b",
        "http://mine:1",
        "http://proxy:3128",
    )
    assert (made["LEASE_NAME"], made["HOME"]) == ("train", "/home/lease")


def test_certificates_are_named_to_the_usual_tools_only_when_there_are_any() -> None:
    assert "SSL_CERT_FILE" not in build(FACTS, IMAGE, SETTINGS).environment
    made = build(FACTS, IMAGE, DockerSettings(ca_bundle=Path("/etc/ca.pem"))).environment
    assert {made[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")} == {spec.CA_BUNDLE}


@pytest.mark.parametrize(
    ("asked", "runs", "command"),
    [
        (None, True, None),
        (None, False, ("sleep", "infinity")),
        (("python3",), True, ("python3",)),
        (("python3",), False, ("python3",)),
    ],
)
def test_an_image_that_runs_nothing_by_itself_sleeps(
    asked: tuple[str, ...] | None, runs: bool, command: tuple[str, ...] | None
) -> None:
    made = build(replace(FACTS, command=asked), replace(IMAGE, runs=runs), SETTINGS)
    assert made.command == command


def test_shared_memory_is_a_part_of_the_memory() -> None:
    assert build(FACTS, IMAGE, SETTINGS).shm_bytes == SETTINGS.shm_bytes
    assert build(replace(FACTS, memory_bytes=2**24), IMAGE, SETTINGS).shm_bytes == 2**24
    assert build(replace(FACTS, shm_bytes=2**29), IMAGE, SETTINGS).shm_bytes == 2**29


def test_only_images_of_the_catalogue_are_taken_as_prepared() -> None:
    assert not build(FACTS, IMAGE, SETTINGS).prepared
    assert build(FACTS, replace(IMAGE, labels={"leasing.environment": "base"}), SETTINGS).prepared


def test_a_workspace_is_mounted_where_the_work_is() -> None:
    made = build(replace(FACTS, workspace="leasing-deadbeef-ws-1"), IMAGE, SETTINGS)
    assert made.mounts == (Mount(volume="leasing-deadbeef-ws-1", target="/workspace"),)
