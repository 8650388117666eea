"""Work spread over a cluster by Ray: actors take one item after the other, on GPUs or on cores. An
item whose actor dies goes to another one.
"""

import logging
import math
import os
import socket
from collections import Counter, deque
from contextlib import contextmanager

import torch

from vjepa_utils.checks import require

TRIES = 3  # of an item, when the processes that work on it die


class Actor:
    def load(self, prepare, threads):
        torch.set_num_threads(threads)
        self.work = prepare()

    def work_on(self, item):
        return self.work(item)


@contextmanager
def connected(address):
    """Ray, for as long as the context lasts: a cluster's, such as "auto" or "host:6379", or one of
    this machine for None. A connection that was there before stays. OSError if there is none.
    """
    ray = require("ray", "cluster")
    if ray.is_initialized():
        yield ray
        return
    # Ray keeps its logs under /tmp/ray; failures are reported by rows and by exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    place = dict(address="local", include_dashboard=False, _node_ip_address="127.0.0.1")
    try:
        if address is not None:
            place, (host, colon, port) = {"address": address}, address.rpartition(":")
            if colon:  # Ray itself waits for minutes, and then exits
                socket.create_connection((host.rpartition("/")[2], port), timeout=30).close()
        ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, SystemExit) as error:
        raise OSError(f"There is no Ray cluster at {address!r}: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def resources(ray):
    """{"CPU": n, "GPU": n} of each node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def spread(ray, items, prepare, workers=None):
    """Yields each item and what came of it, as they are done, None if its processes died each time.

    prepare: gives an actor the function that works on an item.
    workers: how many actors; None: one for each GPU of the cluster, or else for each node.
    """
    count, cores, gpus, threads = shares(resources(ray), workers)
    actors = ray.remote(num_cpus=cores, num_gpus=gpus)(Actor)
    queue, deaths, waiting = deque(items), Counter(), {}  # {what is awaited: (actor, item)}

    def start():
        # Only an actor that is prepared is given an item: one that finds no place, after a node was
        # lost, holds none back.
        actor = actors.remote()
        waiting[actor.load.remote(prepare, threads)] = actor, None

    for _ in range(min(count, len(items))):
        start()
    while queue or any(item for _, item in waiting.values()):
        (done,), _ = ray.wait(list(waiting))
        actor, item = waiting.pop(done)
        try:
            result = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise OSError(f"The cluster could not finish: {error.cause}") from error
        except ray.exceptions.RayError as error:  # the process died, or its node
            deaths[item] += 1
            if deaths[None] >= TRIES * count:
                raise OSError(f"The cluster could not finish: {error}") from error
            if item and deaths[item] < TRIES:
                queue.append(item)
            elif item:
                yield item, None
            start()
            continue
        if item:
            yield item, result
        if queue:
            item = queue.popleft()
            waiting[actor.work_on.remote(item)] = actor, item


def shares(nodes, workers):
    """How many actors, the cores and GPUs that each reserves, and its threads: so many share a GPU,
    or else a node without one, that all find a place.

    nodes: as `resources` gives them; where some have GPUs, only those count.
    """
    nodes = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    nodes = [node for node in nodes if node[1]] or [node for node in nodes if node[0]]
    if not nodes:
        raise OSError("No node of the cluster has a core or a GPU.")
    units = sum(gpu or 1 for _, gpu in nodes)
    workers = workers or units
    sharing = math.ceil(workers / units)
    cores = min(cpu / (gpu or 1) for cpu, gpu in nodes) / sharing
    cores = math.floor(cores) if cores >= 1 else math.floor(100 * cores) / 100
    threads = int(os.environ.get("OMP_NUM_THREADS", str(max(1, int(cores)))).split(",")[0])
    return workers, cores, math.floor(1000 / sharing) / 1000 if nodes[0][1] else 0, threads
