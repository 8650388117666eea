"""Many clips to a collection, in one process or on a cluster, and never twice."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.collection import cluster, work
from vjepa_utils.collection.clips import find_clips
from vjepa_utils.collection.collection import Collection, label
from vjepa_utils.collection.storage import Storage, local_copy
from vjepa_utils.collection.table import Table, run_of
from vjepa_utils.encoder import Encoder
from vjepa_utils.files import File
from vjepa_utils.load import load_encoder
from vjepa_utils.video import Context, Size, read_video


@dataclass
class Summary:
    """What a run did."""

    before: int  # clips that were done already
    done: int = 0
    frames: int = 0
    seconds: float = 1e-9
    failed: dict = field(default_factory=dict)  # {clip: why}
    warned: dict = field(default_factory=dict)  # {clip: of what, such as that it is damaged}

    def __str__(self):
        clips = "1 clip" if self.done == 1 else f"{self.done} clips"
        now = f"{clips} done, {self.frames} frames in {self.seconds:.1f} s, {self.rate}"
        return f"{now}; {self.before} were done before, {len(self.failed)} failed"

    @property
    def rate(self):
        return f"{self.frames / self.seconds:.0f} frames a second"


def extract(
    sources: File | Iterable[File],
    out: File,
    encoder: Encoder | File = "vjepa2-demo",
    size: Size = None,
    context: Context = None,
    every: int = 1,
    layer: int | None = None,
    pool: str = "none",
    dtype: str = "float16",
    split: int | None = None,
    workers: int | None = None,
    address: str | None = None,
) -> Collection:
    """Features of many clips, one file each and a table: a folder that `Collection` reads.

    Finished clips are skipped; missing, changed and failed ones are done. A clip that cannot be
    read becomes a row of the table that says why, and the run continues.

    Args:
        sources: folders, searched with all folders in them; files; lists of files, .txt, .csv or
            .tsv; one or several. Local paths, or URLs that fsspec reads, as "s3://bucket/clips".
        out: the folder, local or such a URL; the folders of the sources are mirrored in it.
        encoder: a name, as for `load_encoder`; without workers an `Encoder` too. By name, a
            collection is continued in the precision in which it was begun.
        size: as for `Encoder.encode`, and so context and layer.
        every: take every n-th frame.
        pool: "none" writes the grid of tokens; "mean" one token instead, the mean over all of them;
            "both" the grid, and the mean to the table.
        dtype: of the values in the files, "float16" or "float32". `Features.load` gives float32.
        split: make each stretch of so many frames that are taken a clip of its own, with its
            `start` in the table; best a multiple of the context.
        workers: None encodes in this process; a number, in so many actors of Ray, on this machine
            or at `address`, that of a Ray cluster.
    Raises:
        UserError: an argument is out of range; there are no clips; another run writes to `out`, or
            wrote there with other parameters or in another precision; Ray is not installed.
        OSError: a source does not exist, `out` cannot be written, or the cluster breaks.
    """
    options = dict(size=size, context=context, every=every, layer=layer, pool=pool, dtype=dtype)
    return run(sources, out, encoder, workers, address, split=split, **options)[0]


def run(sources, out, encoder, workers=None, address=None, **options):
    """`extract`, with the `Summary` of the run beside the collection."""
    by_name = isinstance(encoder, (str, os.PathLike))
    spread = workers is not None or address is not None
    _check(options | {"workers": workers})
    if spread and not by_name:
        raise UserError("With workers, encoder must be a name: each of them loads it itself.")
    storage, name = Storage(out), encoder
    if spread and os.path.isdir(encoder):  # as any process of this machine can load it
        name = os.path.realpath(encoder)
    with ExitStack() as stack:  # a failed run gives back what it holds
        ray = stack.enter_context(cluster.connected(address)) if spread else None
        if by_name:
            encoder = load_encoder(encoder, "cpu" if spread else None, _precision(storage, ray))
        _try(encoder, **options)
        job = work.Job(storage.url, encoder.identity, options)
        stack.enter_context(storage.locked())
        table = Table(storage, job.parameters)
        clips, todo = _clips(sources, job, storage, table)
        summary, begin = Summary(len(clips) - len(todo)), time.monotonic()
        if spread:
            rows = stack.enter_context(closing(cluster.spread(ray, todo, job, name, workers)))
        else:
            rows = (work.work_on(clip, encoder, job) for clip in todo)
        stack.callback(table.write)
        bar = tqdm(rows, total=len(clips), initial=summary.before, unit="clip", leave=False)
        for row in stack.enter_context(bar):
            table.add(row)
            if row["status"] == "done":
                summary.done += 1
                summary.frames += row["frames"]
                if row["message"]:
                    summary.warned[label(row)] = row["message"]
            else:
                summary.failed[label(row)] = row["message"]
            summary.seconds = time.monotonic() - begin
            bar.set_postfix_str(summary.rate, refresh=False)
    return Collection(out), summary


def _check(options):
    for name in ("every", "split", "workers"):
        if not is_whole(options[name], 1) and (options[name] is not None or name == "every"):
            raise UserError(f"{name} must be a whole number of at least 1, not {options[name]!r}.")
    for name, known in (("pool", ["none", "mean", "both"]), ("dtype", ["float16", "float32"])):
        if options[name] not in known:
            raise UserError(f"{name} must be one of {', '.join(known)}, not {options[name]!r}.")


def _precision(storage, ray):
    """That in which the collection was begun, bfloat16 on a cluster's GPUs, else the fastest."""
    gpus = ray and any("GPU" in node for node in cluster.resources(ray))
    return (run_of(storage) or {}).get("precision", "bfloat16" if gpus else None)


def _try(encoder, size, context, layer, **_):
    """Encode a small frame, so that arguments do not fail clip by clip."""
    side = encoder.patch_size
    encoder.encode(np.zeros((2, side, side, 3), np.uint8), context, (side, side), layer)
    encoder.grid(np.zeros((2, 64, 64, 3), np.uint8), size)


def _clips(sources, job, storage, table):
    """All clips, and those that are to be done, whose old rows are taken out of the table."""
    sizes, named = storage.listing(), {row["name"] for row in table.rows.values()}
    for name in sizes.keys() - named:  # as a killed run or a lost table leaves them
        metadata, pooled = storage.stored(name, sizes[name])
        if metadata.get("run") == job.parameters and metadata["row"]["name"] == name:
            table.add(metadata["row"] | {"bytes": sizes[name], "pooled": pooled})
    names = {path: row["name"].split("~")[0] for (path, _), row in table.rows.items()}
    clips = find_clips(sources, names)
    if job.options["split"]:
        clips = [stretch for clip in clips for stretch in _stretches(clip, **job.options)]
    todo = []
    for clip in clips:
        row = table.rows.get((clip.path, clip.start), {"identity": None})
        if (row["identity"], row.get("bytes")) != (clip.identity, sizes.get(clip.name, 0)):
            table.rows.pop((clip.path, clip.start), None)
            todo.append(clip)
    table.write()  # so that no row outlives the file that it is of
    return clips, todo


def _stretches(clip, split, every, **_):
    """The stretches of a film; the clip itself if there is one only, or none can be read."""
    try:
        with warnings.catch_warnings(), local_copy(clip.path) as path:
            warnings.simplefilter("ignore")  # the rows will hold them
            *starts, last = read_video(path, every=every).indices[::split].tolist()
    except (UserError, OSError):
        return [clip]
    parts = [(start, split) for start in starts] + [(last, None)]
    named = [replace(clip, name=f"{clip.name}~{n:07d}", start=n, count=count) for n, count in parts]
    return named if starts else [clip]
