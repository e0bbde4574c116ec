"""What NVML tells of a device's faults, by the real wrapper over the fake library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pynvml
import pytest

from monitoring import nvml
from monitoring.cgroups import Cgroups
from monitoring.machine import MachineReader
from monitoring.nvml import Faults, Nvml
from monitoring.sampler import Sampler
from tests.support.nvml import FakeDevice, FakeNvml

A, B = "GPU-a", "GPU-b"
ALL = "xid=;ecc=2;pending=0;failed=0;retired=0"
KNOWN = Faults({}, ecc_uncorrected=2, remap_pending=False, remap_failed=False, retirement_pending=False)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all of them: a process loads it once."""
    return tmp_path_factory.mktemp("nvml")


@pytest.fixture
def fake(library: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    made = FakeNvml(library, [FakeDevice(A, faults=ALL), FakeDevice(B)])
    monkeypatch.setenv("FAKE_NVML_STATE", str(made.state))
    return made


@pytest.fixture
def reader(fake: FakeNvml) -> Iterator[Nvml]:
    made = Nvml(fake.library)
    yield made
    made.close()


def faults(reader: Nvml, uuid: str = A) -> Faults:
    found = {device.uuid: device for device in reader.look().devices or ()}
    return found[uuid].faults


def test_what_a_device_does_not_support_is_none_and_never_0(reader: Nvml, fake: FakeNvml) -> None:
    assert faults(reader, B) == Faults(None, None, None, None, None)
    assert faults(reader, A) == KNOWN


def test_counters_and_states_are_read_anew(reader: Nvml, fake: FakeNvml) -> None:
    fake.change(A, faults="xid=;ecc=3;pending=1;failed=1;retired=1")
    assert faults(reader) == Faults({}, 3, remap_pending=True, remap_failed=True, retirement_pending=True)


def test_xids_are_counted_from_when_they_are_listened_for(reader: Nvml, fake: FakeNvml) -> None:
    fake.change(A, faults=ALL.replace("xid=", "xid=79:4"))
    assert faults(reader) == KNOWN, "what was before is nobody's news"
    fake.change(A, faults=ALL.replace("xid=", "xid=79:5,31:2"))
    assert faults(reader).xids == {79: 1, 31: 2}
    assert faults(reader).xids == {79: 1, 31: 2}, "told once"


def test_a_device_that_is_lost_still_tells_of_what_it_was_lost_by(reader: Nvml, fake: FakeNvml) -> None:
    faults(reader)
    fake.change(A, state="lost", faults=ALL.replace("xid=", "xid=79:1"))
    assert faults(reader) == Faults({79: 1})


def test_counts_outlive_a_restart_of_the_driver(reader: Nvml, fake: FakeNvml) -> None:
    faults(reader)
    fake.change(A, faults=ALL.replace("xid=", "xid=48:1"))
    assert faults(reader).xids == {48: 1}
    reader.close()
    assert faults(reader).xids == {48: 1}


def test_one_look_takes_no_more_than_many(
    reader: Nvml, fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that goes on raising errors must not hold up the sampler."""
    monkeypatch.setattr(nvml, "MANY_EVENTS", 3)
    faults(reader)
    fake.change(A, faults=ALL.replace("xid=", "xid=13:8"))
    assert [faults(reader).xids for _ in range(3)] == [{13: 3}, {13: 6}, {13: 8}]


@pytest.mark.parametrize(
    "missing",
    ["nvmlEventSetCreate", "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetRemappedRows"],
)
def test_a_library_without_the_call_is_as_a_device_without_the_value(
    reader: Nvml, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def absent(*_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    monkeypatch.setattr(pynvml, missing, absent)
    expected = {
        "nvmlEventSetCreate": replace(KNOWN, xids=None),
        "nvmlDeviceGetTotalEccErrors": replace(KNOWN, ecc_uncorrected=None),
        "nvmlDeviceGetRemappedRows": replace(KNOWN, remap_pending=None, remap_failed=None),
    }
    assert faults(reader) == expected[missing]


def test_the_report_says_them_all_and_when_it_was_at_the_latest(reader: Nvml, fake: FakeNvml) -> None:
    sampler = Sampler(reader, Cgroups(), MachineReader(), metrics_address=None)
    first = sampler.sample()
    assert first.sampled_at is None
    fake.change(A, faults=ALL.replace("xid=", "xid=79:1"))
    assert first.devices is not None
    assert first.devices[0].faults.xids == {}
    assert first.devices[1].faults.xids is None
    at = datetime(2026, 11, 21, tzinfo=UTC)
    second = sampler.sample(at)
    assert second.sampled_at == at
    assert second.devices is not None
    assert second.devices[0].faults.xids == {79: 1}
    assert second.devices[0].faults.listening_since == first.devices[0].faults.listening_since
    sampler.close()


def uses(reader: Nvml, uuid: str = A) -> dict[int, float | None]:
    found = {device.uuid: device for device in reader.look().devices or ()}
    return {process.pid: process.utilization_ratio for process in found[uuid].processes or ()}


def test_each_process_has_its_own_part_of_a_devices_time(reader: Nvml, fake: FakeNvml) -> None:
    fake.change(A, faults="uses=1", util=60, processes=((7, 1000, 40), (8, 1000, 20), (9, 1000)))
    assert uses(reader) == {7: 0.4, 8: 0.2, 9: 0.0}
    fake.change(A, processes=((7, 1000), (8, 1000)))
    assert uses(reader) == {7: 0.0, 8: 0.0}, "no new sample: nobody used it, and the device is not lost"
    assert {device.uuid: device.health for device in reader.look().devices or ()}[A] == "ok"


@pytest.mark.parametrize("unsupported", ["", "uses=13"], ids=["not supported", "an older driver"])
def test_where_a_device_does_not_tell_it_is_none(reader: Nvml, fake: FakeNvml, unsupported: str) -> None:
    fake.change(A, faults=unsupported, util=60, processes=((7, 1000, 40),))
    assert uses(reader) == {7: None}
