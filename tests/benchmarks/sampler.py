"""P14: sampling sixteen leases' containers from their cgroup files, against asking the engine, in turns."""

from __future__ import annotations

import statistics
import subprocess
import time

import docker

from monitoring.cgroups import Cgroups
from tests.benchmarks._measure import said
from tests.support.images import BUSYBOX, ensure_busybox

CONTAINERS, ROUNDS = 16, 5


def main() -> None:
    ensure_busybox()
    client = docker.APIClient(version="auto")
    ids = [
        subprocess.check_output(
            ["docker", "run", "-d", "--label", "leasing-bench=1", BUSYBOX, "sleep", "600"], text=True
        ).strip()
        for _ in range(CONTAINERS)
    ]
    try:
        cgroups = Cgroups()
        assert set(ids) <= {usage.container_id for usage in cgroups.sample()}
        own, engine = [], []
        for _ in range(ROUNDS):
            for _ in range(20):
                began = time.perf_counter()
                usages = cgroups.sample()
                own.append(time.perf_counter() - began)
                assert all(usage.network_bytes for usage in usages if usage.container_id in ids)
            began = time.perf_counter()
            for container in ids:
                client.stats(container, stream=False, one_shot=True)
            engine.append(time.perf_counter() - began)
        cgroups.close()
    finally:
        subprocess.run(["docker", "rm", "-f", *ids], capture_output=True, check=True)
    median, factor = statistics.median(own), statistics.median(engine) / statistics.median(own)
    print(f"P14, sampling {CONTAINERS} containers: CPU, memory, disk and network of each")
    print(f"  cgroup files     {said(own)}; goal 1 ms: {'met' if median <= 0.001 else 'missed'}")
    print(f"  one-shot stats   {said(engine)}")
    print(f"  faster by        {factor:.0f}x; goal 500x: {'met' if factor >= 500 else 'missed'}")


if __name__ == "__main__":
    main()
