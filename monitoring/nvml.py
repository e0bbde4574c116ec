"""NVIDIA's management library: the only place that imports `pynvml` (from NVIDIA's distribution nvidia-ml-py).

"Cannot be measured" is None, never 0 and never an exception: hardware says NotSupported, an older driver
FunctionNotFound, and both mean the same. Only a library that is not there or not usable at all is told apart.
"""

from __future__ import annotations

import ctypes
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pynvml

log = logging.getLogger(__name__)
T = TypeVar("T")


# NVML's common-ancestor levels (nvmlGpuTopologyLevel_t), nearest first, as ranks: higher is better. NVLink beats all.
RANKS = {0: 60, 10: 50, 20: 40, 30: 30, 40: 20, 50: 10}
NVLINK_RANK = 100

LOST = {"NVMLError_GpuIsLost", "NVMLError_NotFound", "NVMLError_ResetRequired"}
AGAIN = {"NVMLError_Uninitialized", "NVMLError_LibRmVersionMismatch", "NVMLError_DriverNotLoaded"}
MANY_EVENTS = 256
"""Xid events taken at one look: a device that goes on raising them must not hold up the look."""
NO_VALUE = pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value


@dataclass(frozen=True)
class Process:
    """A process on a device, by its host PID. `memory_bytes` is None where the driver hides it.

    `utilization_ratio`: how much of the device's time it had at most in a sample since the last look.
    """

    pid: int
    memory_bytes: int | None
    utilization_ratio: float | None = None


@dataclass(frozen=True)
class Faults:
    """What a device tells of faults of its own; None is "does not tell".

    `xids`: how often each Xid error happened since this process began to listen. `ecc_uncorrected`: over the device's
    life. The others are states: a row remap or page retirement that waits for a reset, a remap that failed.
    """

    xids: Mapping[int, int] | None = None
    ecc_uncorrected: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    retirement_pending: bool | None = None


@dataclass(frozen=True)
class Device:
    """A device as NVML sees it now. `health` is ok, lost or faulty."""

    uuid: str
    index: int
    model: str
    memory_bytes: int
    health: str = "ok"
    health_reason: str = ""
    parent_uuid: str | None = None
    mig_enabled: bool = False
    numa_node: int | None = None
    pci_bus_id: str | None = None
    utilization_ratio: float | None = None
    memory_used_bytes: int | None = None
    power_watts: float | None = None
    temperature_celsius: float | None = None
    processes: tuple[Process, ...] | None = None
    faults: Faults = Faults()


@dataclass(frozen=True)
class Inventory:
    """One look at everything. `absent_reason` says why there is no NVML; then there are no devices to speak of."""

    driver_version: str | None
    absent_reason: str | None
    devices: tuple[Device, ...] | None
    links: dict[tuple[str, str], int] = field(default_factory=dict)


class Nvml:
    """NVML, loaded at the first look, and again after the driver restarted."""

    def __init__(self, library: Path | None = None) -> None:
        self._library = library
        self._ready = False
        self._links: tuple[tuple[str, ...], dict[tuple[str, str], int]] = ((), {})
        self._known: dict[int, Device] = {}
        self._xids = _Xids()
        self._uses = _Uses()

    def look(self) -> Inventory:
        """The devices now. A machine without NVML has none, with the reason; a lost device is among the rest."""
        try:
            self._start()
        except pynvml.NVMLError as error:
            self._known.clear()
            return Inventory(None, _absent(error), devices=())
        try:
            version = str(pynvml.nvmlSystemGetDriverVersion())
            self._xids.drain()
            devices = tuple(self._devices())
        except pynvml.NVMLError as error:
            self.close()  # the next look starts anew
            return Inventory(None, f"NVML failed: {error}", devices=None)
        return Inventory(version, None, devices, self._topology(devices))

    def close(self) -> None:
        """Let go of the library."""
        if self._ready:
            self._ready = False
            self._xids.forget()
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError as error:
                log.info("NVML did not shut down error=%s", error)

    def _start(self) -> None:
        if self._ready:
            return
        if self._library is not None:
            # loaded by path before the wrapper looks for the name: it then finds this one
            ctypes.CDLL(str(self._library), mode=ctypes.RTLD_GLOBAL)
        pynvml.nvmlInit()
        self._ready = True

    def _devices(self) -> list[Device]:
        found: list[Device] = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                device = _device(handle, index, self._xids, self._uses)
                self._known[index] = device
                found.append(device)
                if device.mig_enabled:
                    found.extend(_instances(handle, device))
            except pynvml.NVMLError as error:
                if type(error).__name__ in AGAIN:
                    raise
                if (lost := self._lost(index, error)) is not None:
                    found.append(lost)
        return found

    def _lost(self, index: int, error: pynvml.NVMLError) -> Device | None:
        """A device that does not answer, by what was known of it before; None for one never seen."""
        known = self._known.get(index)
        if known is None:
            log.warning("device does not answer and was never seen index=%d error=%s", index, error)
            return None
        health = "lost" if type(error).__name__ in LOST else "faulty"
        return Device(
            uuid=known.uuid,
            index=index,
            model=known.model,
            memory_bytes=known.memory_bytes,
            health=health,
            health_reason=str(error),
            mig_enabled=known.mig_enabled,
            numa_node=known.numa_node,
            pci_bus_id=known.pci_bus_id,
            faults=Faults(xids=self._xids.of(known.uuid)),
        )

    def _topology(self, devices: tuple[Device, ...]) -> dict[tuple[str, str], int]:
        """How well each pair is connected; asked once for a set of devices, for it does not change."""
        whole = tuple(
            device.uuid for device in devices if device.parent_uuid is None and device.health == "ok"
        )
        if self._links[0] != whole:
            handles = {uuid: pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in whole}
            links = {}
            for position, one in enumerate(whole):
                for other in whole[position + 1 :]:
                    rank = _rank(handles[one], handles[other])
                    if rank is not None:
                        links[one, other] = rank
            self._links = (whole, links)
        return self._links[1]


class _Xids:
    """The Xid errors of devices, counted from NVML's events.

    NVML tells only of what happens after a device is listened to; the counts outlive a restart of the driver.
    """

    def __init__(self) -> None:
        self._events: Any = None
        self._heard: dict[int | None, str] = {}
        self._counts: dict[str, Counter[int]] = {}

    def drain(self) -> None:
        """Take in what has happened since the last time."""
        for _ in range(MANY_EVENTS if self._heard else 0):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError:
                return  # nothing more, or a device is lost: then its health says so
            uuid = self._heard.get(_address(event.device))
            if uuid is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                self._counts[uuid][int(event.eventData)] += 1

    def listen(self, handle: Any, uuid: str) -> None:
        """Count those of a device from now on, if it tells of them."""
        if _address(handle) in self._heard:
            return
        self._heard[_address(handle)] = uuid
        try:
            if self._events is None:
                self._events = pynvml.nvmlEventSetCreate()
            pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
            self._counts.setdefault(uuid, Counter())
        except pynvml.NVMLError as error:
            log.info("device tells of no Xid errors uuid=%s error=%s", uuid, error)

    def of(self, uuid: str) -> Mapping[int, int] | None:
        """How often each has happened; None for a device that does not tell."""
        counts = self._counts.get(uuid)
        return None if counts is None else dict(counts)

    def forget(self) -> None:
        """The library is let go, and what it gave with it."""
        self._events = None
        self._heard.clear()


class _Uses:
    """How much each process used a device, from the samples that the driver keeps, by host PID."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def since_last(self, handle: Any, uuid: str) -> Mapping[int, float] | None:
        """The highest share of the device's time of each process that used it since the last look; 0 of all others.
        None where the device does not tell: not at all, or not as long as it is split into instances."""
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(handle, self._seen.get(uuid, 0))
        except pynvml.NVMLError as error:
            kind = type(error).__name__
            if kind == "NVMLError_NotFound":
                return {}  # it has no sample newer than that: nobody used it
            if kind in LOST | AGAIN:
                raise
            return None
        found: dict[int, float] = {}
        for one in samples:
            self._seen[uuid] = max(self._seen.get(uuid, 0), int(one.timeStamp))
            busiest = max(one.smUtil, one.encUtil, one.decUtil) / 100
            found[int(one.pid)] = max(found.get(int(one.pid), 0.0), min(1.0, busiest))
        return found


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _faults(handle: Any, xids: Mapping[int, int] | None) -> Faults:
    rows = _maybe(pynvml.nvmlDeviceGetRemappedRows, handle)
    retirement = _maybe(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)
    return Faults(
        xids=xids,
        ecc_uncorrected=_maybe(
            pynvml.nvmlDeviceGetTotalEccErrors,
            handle,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_AGGREGATE_ECC,
        ),
        remap_pending=bool(rows[2]) if rows else None,
        remap_failed=bool(rows[3]) if rows else None,
        retirement_pending=bool(retirement) if retirement is not None else None,
    )


def _device(handle: Any, index: int, xids: _Xids, uses: _Uses) -> Device:
    uuid = str(pynvml.nvmlDeviceGetUUID(handle))
    xids.listen(handle, uuid)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    pci = _maybe(pynvml.nvmlDeviceGetPciInfo, handle)
    use = _maybe(pynvml.nvmlDeviceGetUtilizationRates, handle)
    watts = _maybe(pynvml.nvmlDeviceGetPowerUsage, handle)
    degrees = _maybe(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    mig = _maybe(pynvml.nvmlDeviceGetMigMode, handle)
    numa = _maybe(pynvml.nvmlDeviceGetNumaNodeId, handle)
    return Device(
        uuid=uuid,
        index=index,
        model=str(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(memory.total),
        mig_enabled=bool(mig and mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE),
        numa_node=numa if isinstance(numa, int) and 0 <= numa < 4096 else None,
        pci_bus_id=_text(pci.busId) if pci else None,
        utilization_ratio=use.gpu / 100 if use else None,
        memory_used_bytes=int(memory.used),
        power_watts=watts / 1000 if watts is not None else None,
        temperature_celsius=float(degrees) if degrees is not None else None,
        processes=_processes(handle, uses.since_last(handle, uuid)),
        faults=_faults(handle, xids.of(uuid)),
    )


def _instances(parent: Any, device: Device) -> list[Device]:
    """The MIG instances that an admin made on a device."""
    found = []
    for number in range(_maybe(pynvml.nvmlDeviceGetMaxMigDeviceCount, parent) or 0):
        handle = _maybe(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, number)
        if handle is None:
            continue
        memory = _maybe(pynvml.nvmlDeviceGetMemoryInfo, handle)
        found.append(
            Device(
                uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
                index=device.index,
                model=str(_maybe(pynvml.nvmlDeviceGetName, handle) or device.model),
                memory_bytes=int(memory.total) if memory else 0,
                parent_uuid=device.uuid,
                numa_node=device.numa_node,
                pci_bus_id=device.pci_bus_id,
                memory_used_bytes=int(memory.used) if memory else None,
                processes=_processes(handle, None),  # NVML tells of no process's use of an instance
                faults=device.faults,  # they are the hardware's, which all instances are on
            )
        )
    return found


def _processes(handle: Any, uses: Mapping[int, float] | None) -> tuple[Process, ...] | None:
    """Compute and graphics processes together, each once; None where the driver does not tell."""
    lists = [
        _maybe(pynvml.nvmlDeviceGetComputeRunningProcesses, handle),
        _maybe(pynvml.nvmlDeviceGetGraphicsRunningProcesses, handle),
    ]
    if all(one is None for one in lists):
        return None
    found: dict[int, int | None] = {}
    for process in (process for one in lists for process in one or ()):
        used = process.usedGpuMemory
        found[process.pid] = None if used is None or used == NO_VALUE else int(used)
    return tuple(
        Process(pid, memory, None if uses is None else uses.get(pid, 0.0))
        for pid, memory in sorted(found.items())
    )


def _rank(one: Any, other: Any) -> int | None:
    status = _maybe(pynvml.nvmlDeviceGetP2PStatus, one, other, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    if status == pynvml.NVML_P2P_STATUS_OK:
        return NVLINK_RANK
    level = _maybe(pynvml.nvmlDeviceGetTopologyCommonAncestor, one, other)
    return RANKS.get(level) if level is not None else None


def _maybe(call: Callable[..., T], *arguments: Any) -> T | None:
    """The value, or None where this device, driver or library does not have it. Losing the device is still raised."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if type(error).__name__ in LOST | AGAIN:
            raise
        return None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _absent(error: pynvml.NVMLError) -> str:
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        return "no NVIDIA driver"
    return f"NVML does not start: {error}"
