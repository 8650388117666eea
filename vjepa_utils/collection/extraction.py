"""Many clips to a collection, in one process or on a cluster, and never twice."""

from __future__ import annotations

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.collection import cluster, work
from vjepa_utils.collection.clips import find_clips
from vjepa_utils.collection.collection import Collection
from vjepa_utils.collection.storage import Storage
from vjepa_utils.collection.table import Table, run_of
from vjepa_utils.load import load_encoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vjepa_utils.encoder import Encoder
    from vjepa_utils.video import Context, File, Size

# Bytes of resized pictures that are held at once, float32: 680 frames of 256×256 pixels. A longer
# clip is divided.
STRETCH = 2**29


@dataclass
class Summary:
    """What a run did: clips done before, done now and failed now ({path: why}), frames of those
    done now, and seconds, excluding the search for clips and the loading of the encoder.
    """

    before: int
    done: int
    failed: dict
    frames: int
    seconds: float

    def __str__(self):
        rate = f"{self.frames / max(self.seconds, 1e-9):.0f} frames a second"
        now = f"{self.done} clips done, {self.frames} frames in {self.seconds:.1f} s, {rate}"
        return f"{now}; {self.before} were done before, {len(self.failed)} failed"


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
    workers: int | None = None,
    address: str | None = None,
) -> Collection:
    """Features of many clips, one file each and a table: a folder that `Collection` reads.

    Finished clips, by the header and length of their file and the identity of the clip's, are
    skipped; missing, changed and failed ones are done. A clip that cannot be read becomes a row of
    the table that says why, and the run continues.

    Args:
        sources: folders, searched with all folders in them; files; lists of files, .txt or .csv;
            one or several. Local paths, or URLs that fsspec reads, such as "s3://bucket/clips".
        out: the folder, local or such a URL; the folders of the sources are mirrored in it.
        encoder: a name, as for `load_encoder`; without workers an `Encoder` too. By name, a
            collection is continued in the precision in which it was begun.
        size, context, layer: as for `Encoder.encode`.  every: take every n-th frame.
        pool: "none" writes the grid of tokens; "mean" one token instead, the mean over all of them;
            "both" the grid, and the mean to the table.
        dtype: of the values in the files, "float16" or "float32". `Features.load` gives float32.
        workers: None encodes in this process; a number, in so many actors of Ray, on this machine
            or at `address`, that of a Ray cluster.
    Returns:
        Collection of all that is in `out`.
    Raises:
        ValueError: an argument is out of range; there are no clips; `out` is of a run with other
            parameters, or in another precision; Ray is not installed.  FileNotFoundError: a source
            does not exist.  OSError: `out` cannot be written, or the cluster breaks.
    """
    how = dict(encoder=encoder, size=size, context=context, every=every, layer=layer, pool=pool)
    return run(sources, out, **how, dtype=dtype, workers=workers, address=address)[0]


def run(sources, out, *, encoder, every, pool, dtype, workers=None, address=None, **how):
    """`extract`, with the `Summary` of the run beside the collection."""
    spread = workers is not None or address is not None
    _check(every, pool, dtype, workers, spread, encoder)
    storage = Storage(out)
    name = cluster.portable(encoder) if spread else encoder
    if isinstance(encoder, (str, PathLike)):
        # a collection is continued in the precision in which it was begun
        precision = (run_of(storage) or {}).get("precision")
        dtype_of_encoder = getattr(torch, precision) if precision else None
        # the actors choose their own devices
        encoder = load_encoder(encoder, "cpu" if spread else None, dtype_of_encoder)
    job = _job(storage, encoder, every, pool, dtype, **how)
    if spread:
        encoder = None  # only its sizes are needed here
    table = Table(storage, job.parameters)
    clips = find_clips(sources, table.names())
    todo = _unfinished(clips, job, storage, table)
    summary, begin = Summary(len(clips) - len(todo), 0, {}, 0, 0.0), time.monotonic()
    rows = (
        cluster.spread(todo, job, name, workers, address) if spread else _here(todo, job, encoder)
    )
    try:
        with tqdm(total=len(clips), initial=summary.before, unit="clip", leave=False) as progress:
            for row in _joined(rows if todo else (), todo, job, progress):
                table.add(row)
                progress.update()
                if row["status"] == "done":
                    summary.done += 1
                    summary.frames += row["frames"]
                else:
                    summary.failed[row["path"]] = row["message"]
    finally:
        table.finish()
    summary.seconds = time.monotonic() - begin
    return Collection(out), summary


def _check(every, pool, dtype, workers, spread, encoder):
    for name, value in (("every", every), ("workers", 1 if workers is None else workers)):
        if not is_whole(value, 1):
            raise UserError(f"{name} must be a whole number of at least 1, not {value!r}.")
    for name, value, known in (
        ("pool", pool, ("none", "mean", "both")),
        ("dtype", dtype, ("float16", "float32")),
    ):
        if value not in known:
            raise UserError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
    if spread and not isinstance(encoder, (str, PathLike)):
        raise UserError("With workers, encoder must be a name: each of them loads it itself.")
    if spread:
        cluster.import_ray()


def _job(storage, encoder, every, pool, dtype, size, context, layer):
    """The job; its arguments are tried on a small frame, so that they do not fail clip by clip."""
    side = encoder.patch_size
    encoder.encode(np.zeros((2, side, side, 3), np.uint8), context, (side, side), layer)
    planner, fingerprint = copy.copy(encoder), encoder.fingerprint
    planner.model = None
    planner.grid(np.zeros((2, 64, 64, 3), np.uint8), size)
    how = dict(size=size, context=context, every=int(every), layer=layer, pool=pool, dtype=dtype)
    precision = str(encoder.dtype).removeprefix("torch.")
    return work.Job(
        storage.url, planner, encoder.name, fingerprint, precision, **how, stretch=STRETCH
    )


def _unfinished(clips, job, storage, table):
    """The clips that are to be done. Rows that the table lacks, as a killed run leaves it, are
    added from the headers of finished files.
    """
    sizes, known = storage.listing(), table.done()

    def check(clip):
        size = sizes.get(storage.features_path(clip.name))
        return size and work.finished(work.Part(clip, 0, 0, 0), job, storage, size)

    todo, leftovers = [], {path.rsplit("/", 1)[0] for path in sizes if ".parts/" in path}
    with ThreadPoolExecutor(16) as pool:
        for clip, row in zip(clips, pool.map(check, clips), strict=True):
            if not row:
                todo.append(clip)
                continue
            if known.get(clip.path) != clip.identity:
                table.add(row | {"path": clip.path, "name": clip.name})
            if (parts := storage.path(f"{clip.name}.parts")) in leftovers:
                storage.fs.rm(parts, recursive=True)  # interrupted before they were removed
    return todo


def _here(clips, job, encoder):
    """Rows of all parts, in order; a thread reads the next part while one is encoded."""
    parts = (part for clip in clips for part in work.read(work.Part(clip), job))
    with work.listening(), ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, parts, None)
        while (part := following.result()) is not None:
            following = reader.submit(next, parts, None)
            yield work.encode(part, encoder, job)


def _joined(rows, clips, job, progress):
    """Rows of clips from rows of parts. A clip has failed if one of its parts has, or if none came;
    it ends where its file breaks.
    """
    waiting, over, frames, begin = {}, set(), 0, time.monotonic()  # parts of clips; paths
    for row in rows:
        frames += row.get("frames", 0)
        rate = frames / max(time.monotonic() - begin, 1e-9)
        progress.set_postfix_str(f"{frames} frames, {rate:.0f} a second", refresh=False)
        path = row["path"]
        if path in over:  # parts after one that failed, or after a break
            continue
        if row["status"] == "failed" or row["whole"]:
            over.add(path)
            waiting.pop(path, None)
            yield row
        else:
            parts = waiting.setdefault(path, {})
            parts[row["start"]] = row
            if complete := _complete(parts, row["count"]):
                del waiting[path]
                over.add(path)
                try:
                    yield work.join(complete, job)
                except OSError as error:
                    yield row | dict(status="failed", message=str(error))
    for clip in clips:
        if clip.path not in over:  # the process crashed each time, as decoders may
            message = f"{clip.path} was not finished: what read or encoded it crashed."
            yield work.failed(work.Part(clip), message, 0.0).row


def _complete(parts, count):
    """The parts in order, {start: row}, up to where the file breaks; None if one is missing."""
    rows, start = [], 0
    while start < count:
        row = parts.get(start)
        if row is None:
            return None
        if row["status"] == "done":
            rows.append(row)
        if row["stop"] < row["end"]:
            return rows
        start = row["end"]
    return rows
