"""The clips of a run spread over a cluster by Ray: actors that each hold an encoder take one clip
after the other, on GPUs or on cores. A clip whose actor dies goes to another one.
"""

import logging
import math
import os
from collections import Counter, deque
from contextlib import contextmanager

import torch

from vjepa_utils.checks import UserError, require
from vjepa_utils.collection.work import failed, work_on

TRIES = 3  # of a clip, when the processes that read it die


class Actor:
    """An encoder on some node."""

    def load(self, encoder, job, threads):
        from vjepa_utils.load import load_encoder

        torch.set_num_threads(threads)
        self.encoder, self.job = load_encoder(encoder, dtype=job.encoder["precision"]), job
        if self.encoder.identity != job.encoder:
            raise UserError(f"{encoder} has other weights on this node than where the run began.")

    def work_on(self, clip):
        return work_on(clip, self.encoder, self.job)


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
    place = {"address": address}
    if address is None:
        place = dict(address="local", include_dashboard=False, _node_ip_address="127.0.0.1")
    try:
        ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        raise OSError(f"There is no Ray cluster at {address!r}: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def resources(ray):
    """{"CPU": n, "GPU": n} of each node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def spread(ray, clips, job, encoder, workers=None):
    """Yields the rows of clips as they are done; OSError if the cluster breaks.

    encoder: a name that every node can load.
    workers: how many actors; None: one for each GPU of the cluster, or else for each node.
    """
    count, cores, gpus, threads = shares(resources(ray), workers)
    actors = ray.remote(num_cpus=cores, num_gpus=gpus)(Actor)
    queue, tries, waiting = deque(clips), Counter(), {}  # {what is awaited: (actor, clip)}

    def start():
        # Only an actor that has loaded its encoder is given a clip: one that finds no place, after
        # a node was lost, holds none back.
        actor = actors.remote()
        waiting[actor.load.remote(encoder, job, threads)] = actor, None

    for _ in range(min(count, len(clips))):
        start()
    while queue or any(clip for _, clip in waiting.values()):
        (done,), _ = ray.wait(list(waiting))
        actor, clip = waiting.pop(done)
        try:
            row = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise OSError(f"The cluster could not finish: {error.cause}") from error
        except ray.exceptions.RayError as error:  # the process died, or its node
            tries[clip] += 1
            if clip and tries[clip] < TRIES:
                queue.append(clip)
            elif clip:
                yield failed(clip, f"{clip.path} was not finished: what read it crashed each time.")
            elif tries[clip] >= TRIES * count:
                raise OSError(f"The cluster could not finish: {error}") from error
            start()
            continue
        if clip:
            yield row
        if queue:
            clip = queue.popleft()
            waiting[actor.work_on.remote(clip)] = actor, clip


def shares(nodes, workers):
    """How many actors, the cores and GPUs that each reserves, and its threads.

    nodes: as `resources` gives them. Actors are of nodes with GPUs, or else of nodes with cores.
    """
    nodes = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    nodes = [node for node in nodes if node[1]] or [node for node in nodes if node[0]]
    if not nodes:
        raise OSError("No node of the cluster has a core or a GPU.")
    cpus, gpus = (sum(column) for column in zip(*nodes, strict=True))
    workers = workers or gpus or len(nodes)
    sharing = math.ceil(workers / gpus) if gpus else 0  # actors of one GPU

    def room(cores):
        """For how many actors of so many cores."""
        return sum(min(cpu // cores, gpu * sharing or workers) for cpu, gpu in nodes)

    # The most cores with which all find a place; of more actors than cores, each has a part of one.
    cores = next((n for n in range(cpus, 0, -1) if room(n) >= workers), 0)
    threads = int(os.environ.get("OMP_NUM_THREADS", str(max(1, cores))).split(",")[0])
    cores = cores or min(1, math.floor(100 * cpus / workers) / 100)
    return workers, cores, math.floor(1000 / sharing) / 1000 if gpus else 0, threads
