"""The work spread over a cluster by Ray Data: clips are read by tasks on all cores, and encoded by
actors that each hold an encoder. Ray's back-pressure bounds the frames that wait between them.
"""

import json
import logging
import os
import pickle
import warnings
from pathlib import Path

import torch

import vjepa_utils.collection.work as work
from vjepa_utils.checks import UserError

INSTALL = (
    "workers and address need Ray, which is not installed: pip install -r requirements-cluster.txt "
    'or "vjepa-utils[cluster]"'
)
# Bytes of a file. Smaller ones are read by one task, which divides them on its way; larger ones are
# divided first, so that many tasks read one film.
FILM = 2**26


class Encoding:
    """An actor: an encoder that encodes parts."""

    def __init__(self, encoder, job, threads):
        from vjepa_utils.load import load_encoder

        torch.set_num_threads(threads)
        self.encoder, self.job = load_encoder(encoder, dtype=getattr(torch, job.precision)), job
        if self.encoder.fingerprint != job.fingerprint:
            raise UserError(f"{encoder} has other weights on this node than where the run began.")

    def __call__(self, row):
        with work.listening():
            part = pickle.loads(row["part"])
            return {"row": json.dumps(work.encode(part, self.encoder, self.job))}


def spread(clips, job, encoder, workers=None, address=None):
    """Yields the rows of all parts of some clips, as they are done.

    Args:
        clips: list of Clip.  job: see `Job`.  encoder: a name that every node can load.
        workers: how many actors. None: one for each GPU of the cluster, or else for each node.
        address: of a Ray cluster, such as "auto" or "host:6379"; None: one on this machine, which
            ends with the run.
    Raises:
        ValueError: Ray is not installed.  OSError: the cluster cannot be reached, or breaks.
    """
    ray = import_ray()
    began = not ray.is_initialized()
    if began:
        _connect(ray, address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, of its settings
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            context.max_errored_blocks = -1  # a task that crashes again and again loses its clip
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            dataset = _pipeline(ray, clips, job, encoder, *_sizes(ray, workers))
        for row in dataset.iter_rows():
            yield json.loads(row["row"])
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise OSError(f"The cluster could not finish: {reason}") from error
    finally:
        if began:
            ray.shutdown()


def import_ray():
    """Ray, an extra of this package; ValueError with what to install where it is missing."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError(f"{INSTALL}.") from None
    return ray


def _connect(ray, address):
    # Ray keeps its logs under /tmp/ray; failures are reported by rows and by exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet = dict(log_to_driver=False, logging_level=logging.ERROR)
    if address is None:  # a cluster of this process alone, on the loopback
        ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        raise OSError(f"There is no Ray cluster at {address!r}: {error}") from None


def _sizes(ray, workers):
    """How many actors, the cores and GPUs that each reserves, and its threads."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    smallest = min(int(node.get("CPU", 0)) for node in nodes)
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    workers = workers or gpus or len(nodes)
    # Threads are an actor's share of a node. But it reserves half a core at most, and less where
    # the smallest node could not hold all of them beside a task that reads: readers that wait for a
    # core for ever would be a deadlock, and so would actors of a lost node that find no new place.
    # (An actor that reserves as much as a reader would be fused with it by Ray Data.)
    cores = int(100 * min(0.5, max(0, smallest - 1) / workers)) / 100
    threads = max(1, smallest // -(-workers // len(nodes)))
    threads = int(os.environ.get("OMP_NUM_THREADS", str(threads)).split(",")[0])
    return workers, cores, min(1, gpus / workers), threads


def _pipeline(ray, clips, job, encoder, workers, cores, gpus, threads):
    def divide(row):
        part = pickle.loads(row["part"])
        parts = work.divide(part.clip, job) if part.clip.bytes > FILM else [part]
        return [{"part": pickle.dumps(each)} for each in parts]

    def read(row):
        torch.set_num_threads(1)
        with work.listening():
            for part in work.read(pickle.loads(row["part"]), job):
                yield {"part": pickle.dumps(part, 5)}

    rows = [{"part": pickle.dumps(work.Part(clip))} for clip in clips]
    reserve = dict(num_cpus=1, max_retries=3)  # Ray Data's default is without end
    return (
        ray.data.from_items(rows, override_num_blocks=max(1, min(len(rows), 1000)))
        .flat_map(divide, **reserve)
        .repartition(target_num_rows_per_block=1)
        .flat_map(read, **reserve)
        .map(
            Encoding,
            fn_constructor_args=(encoder, job, threads),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=cores,
            num_gpus=gpus,
        )
    )


def portable(encoder):
    """The name of an encoder as any process of this machine can load it."""
    name = str(encoder)
    return str(Path(name).resolve()) if name and Path(name).is_dir() else name
