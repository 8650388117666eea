"""What `test_cluster.py` runs in a separate network: a Ray cluster of two nodes; a driver that is
killed and restarted; a node that is killed. Prints what it saw as JSON.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HOW = dict(size=192, dtype="float32", pool="both", split=24)
WORKERS = 2


def drive(address, source, out, model):
    import vjepa_utils as vj

    vj.extract(source, out, model, **HOW, workers=WORKERS, address=address)


def finished(out):
    """{file: what changes when it is written again}."""
    folders = [(root, names) for root, _, names in os.walk(out) if "/." not in root]
    paths = [Path(root, name) for root, names in folders for name in names]
    stats = {path: path.stat() for path in paths if path.suffix == ".safetensors"}
    return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def until(out, count, process):
    """Wait for so many finished files, and return them."""
    deadline = time.monotonic() + 150
    while len(finished(out)) < count:
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the driver ended, or hung, with {len(finished(out))} files")
        time.sleep(0.01)
    return finished(out)


def start_cluster():
    """Two nodes of two cores. Ray gives a node's agents 15 s to start, which a busy machine may
    exceed: then retry.
    """
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "90")
    from ray.cluster_utils import Cluster

    for left in (2, 1, 0):
        cluster = Cluster()
        try:
            for _ in range(2):
                node = cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1")
            return cluster, node
        except Exception:
            cluster.shutdown()
            if not left:
                raise


def main(source, out, model):
    begin = time.monotonic()
    cluster, node = start_cluster()
    words = [sys.executable, "-m", "tests.on_cluster", cluster.address, source, out, model]
    seen = {"cluster": time.monotonic() - begin}

    driver = subprocess.Popen(words)
    seen["before the driver was killed"] = until(out, 5, driver)
    driver.kill()
    driver.wait()
    seen["first run"] = time.monotonic() - begin

    driver = subprocess.Popen(words)
    seen["before the node was killed"] = until(out, 12, driver)
    cluster.remove_node(node, allow_graceful=False)
    seen["returned"] = driver.wait(240)
    seen["second run"] = time.monotonic() - begin
    seen["in the end"] = finished(out)
    print(json.dumps(seen))
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else drive(*sys.argv[1:])
