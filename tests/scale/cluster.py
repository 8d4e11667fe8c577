"""A cluster of three machines in a network namespace: one machine is lost, then the driver is killed and restarted.

test_cluster.py runs it in the namespace, with the scans and the folder of the results; it prints a line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ray.cluster_utils import Cluster

MACHINES = 3


def until(what: Callable[[], bool], driver: subprocess.Popen[str] | None = None) -> None:
    """Wait for something; fails after two minutes, or if the driver ends first."""
    for _ in range(1200):
        if what():
            return
        if driver is not None and driver.poll() is not None:
            raise RuntimeError(driver.communicate()[1])
        time.sleep(0.1)
    raise TimeoutError


def main(scans: Path, out: Path) -> None:
    """Answer, and break things meanwhile."""
    machine = {"num_cpus": 1, "object_store_memory": 100_000_000, "memory": 4_000_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**machine, "include_dashboard": False})
    others = [cluster.add_node(**machine) for _ in range(MACHINES - 1)]
    predict = [
        *(sys.executable, "-m", "groundglass", "predict", str(scans), "-o", str(out), "--no-dicom"),
        *("--cluster", cluster.address),
    ]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(predict, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def done() -> list[Path]:
        return sorted(out.glob("*/findings.json"))

    driver = start()
    until(lambda: len(done()) >= 1, driver)
    at_loss = len(done())
    cluster.remove_node(others[0], allow_graceful=False)
    until(lambda: len(done()) >= at_loss + 2, driver)
    os.kill(driver.pid, 9)
    driver.wait()
    time.sleep(2)  # what its workers had begun to write may still appear
    kept = {path: path.stat().st_mtime_ns for path in done()}
    driver = start()
    stdout, stderr = driver.communicate(timeout=120)
    again = [path for path, when in kept.items() if path.stat().st_mtime_ns != when]
    report = {"code": driver.returncode, "kept": len(kept), "again": len(again), "err": stderr, "out": stdout}
    print(json.dumps(report))
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
