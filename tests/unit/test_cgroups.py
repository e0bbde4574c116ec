"""Control groups of both versions, from trees with the kernel's own formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monitoring.cgroups import Cgroups, container_of

ID = "ab" * 32


def v1(root: Path) -> Path:
    memory, cpu = root / "memory/docker" / ID, root / "cpuacct/docker" / ID
    for folder in (memory, cpu):
        folder.mkdir(parents=True)
    (memory / "memory.stat").write_text("cache 100\ntotal_inactive_file 300\n")
    (memory / "memory.usage_in_bytes").write_text("1000\n")
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (memory / "cgroup.procs").write_text("41\n42\n")
    (cpu / "cpuacct.usage").write_text("2500000000\n")
    disk = root / "blkio/docker" / ID
    disk.mkdir(parents=True)
    (disk / "blkio.throttle.io_service_bytes_recursive").write_text(
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\n8:16 Read 1\n8:16 Total 1\nTotal 12289\n"
    )
    return memory


def v2(root: Path) -> Path:
    (root / "cgroup.controllers").parent.mkdir(parents=True, exist_ok=True)
    (root / "cgroup.controllers").write_text("cpu memory\n")
    folder = root / "system.slice" / f"docker-{ID}.scope"
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text("anon 700\ninactive_file 300\n")
    (folder / "memory.current").write_text("1000\n")
    (folder / "memory.max").write_text("4096\n")
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    (folder / "io.stat").write_text(
        "8:16 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=7 dios=0\n8:0 rbytes=1 wbytes=0\n"
    )
    (folder / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (folder / "cgroup.procs").write_text("41\n")
    return folder


def processes(root: Path) -> Path:
    """A /proc where 41 is in a container, and 1 with us on the machine."""
    for name, namespace in (("41", "net:[7]"), ("1", "net:[1]"), ("self", "net:[1]")):
        folder = root / "proc" / name
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/net").symlink_to(namespace)
        (folder / "net").mkdir()
        (folder / "net/dev").write_text(
            "Inter-|   Receive                        |  Transmit\n"
            " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"
            "    lo:    5000 1 0 0 0 0 0 0 5000 1 0 0 0 0 0 0\n"
            "  eth0:    1000 1 0 0 0 0 0 0  100 1 0 0 0 0 0 0\n"
            "  eth1:     500 1 0 0 0 0 0 0   70 1 0 0 0 0 0 0\n"
        )
    return root / "proc"


@pytest.mark.parametrize(("make", "version", "limit"), [(v1, 1, None), (v2, 2, 4096)])
def test_a_container_is_found_and_read(tmp_path: Path, make: object, version: int, limit: int | None) -> None:
    folder = make(tmp_path)  # type: ignore[operator]  # one of the two above
    cgroups = Cgroups(tmp_path, processes(tmp_path))
    assert cgroups.version == version
    (usage,) = cgroups.sample()
    assert (usage.container_id, usage.cpu_seconds_total, usage.memory_working_set_bytes) == (ID, 2.5, 700)
    assert (usage.memory_limit_bytes, usage.oom_kills, usage.network_bytes) == (limit, 2, (1500, 170))
    assert usage.disk_bytes == 12289

    (folder / "cgroup.procs").write_text("")
    (emptied,) = cgroups.sample()
    assert emptied.network_bytes == (1500, 170), "the process is gone, the namespace is not"
    cgroups.close()


@pytest.mark.parametrize("procs", ["", "1\n", "99\n"], ids=["empty", "still-outside", "gone"])
def test_traffic_is_unknown_until_a_process_is_inside(tmp_path: Path, procs: str) -> None:
    folder = v2(tmp_path)
    cgroups = Cgroups(tmp_path, processes(tmp_path))
    (folder / "cgroup.procs").write_text(procs)
    assert [usage.network_bytes for usage in cgroups.sample()] == [None]
    (folder / "cgroup.procs").write_text("41\n")
    assert [usage.network_bytes for usage in cgroups.sample()] == [(1500, 170)]
    cgroups.close()


@pytest.mark.parametrize("make", [v1, v2])
def test_what_vanishes_or_makes_no_sense_is_left_out(tmp_path: Path, make: object) -> None:
    folder = make(tmp_path)  # type: ignore[operator]  # one of the two above
    cgroups = Cgroups(tmp_path)
    assert len(cgroups.sample()) == 1
    name = "memory.usage_in_bytes" if (folder / "memory.usage_in_bytes").exists() else "memory.current"
    (folder / name).write_text("not a number")
    assert cgroups.sample() == []
    cgroups.close()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"9:memory:/docker/{ID}\n", ID),
        (f"0::/kubepods/x/docker-{ID}.scope/inner\n", ID),
        ("0::/user.slice/session-1.scope\n", None),
    ],
)
def test_a_process_is_traced_to_its_container(tmp_path: Path, line: str, found: str | None) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(line)
    assert container_of(7, tmp_path) == found
    assert container_of(8, tmp_path) is None


@pytest.mark.parametrize(("make", "gone"), [(v1, "blkio"), (v2, "io.stat")])
def test_disk_traffic_is_none_where_the_kernel_does_not_count_it(
    tmp_path: Path, make: object, gone: str
) -> None:
    folder = make(tmp_path)  # type: ignore[operator]  # one of the two above
    if make is v1:
        shutil.rmtree(tmp_path / gone)
    else:
        (folder / gone).unlink()
    (usage,) = Cgroups(tmp_path, processes(tmp_path)).sample()
    assert usage.disk_bytes is None
    assert usage.cpu_seconds_total == 2.5
