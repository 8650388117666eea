"""Many clips to a collection, in one process or on a cluster, and never twice."""

import itertools
import json
import math
import os
import time
import warnings
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, check_counts
from vjepa_utils.collection import cluster
from vjepa_utils.collection.clips import find_clips
from vjepa_utils.collection.collection import Collection
from vjepa_utils.collection.storage import SUFFIX, Storage, local_copy, rows_of
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import TENSORS
from vjepa_utils.files import File
from vjepa_utils.load import load_encoder
from vjepa_utils.reading.sources import check_rate
from vjepa_utils.stream import differences, header
from vjepa_utils.video import Context, Size, read_video

LARGE = 2**30  # bytes of features, float32, above which they are not held in memory


def extract(
    sources: File | Iterable[File],
    out: File,
    encoder: Encoder | File = "vjepa2-demo",
    size: Size = None,
    context: Context = None,
    every: int | None = None,
    layer: int | None = None,
    pool: str = "none",
    dtype: str = "float16",
    split: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    fps: float | None = None,
) -> Collection:
    """Features of many clips, one file each and a table: a folder that `Collection` reads. Finished
    clips are skipped. One that cannot be read becomes a row that says why, and the run continues.

    Args:
        sources: folders, searched with all in them; files; lists of files, .txt, .csv or .tsv; one
            or several. Local paths, or URLs that fsspec reads, as "s3://bucket/clips".
        out: the folder, local or such a URL; the folders of the sources are mirrored in it.
        encoder: a name, as for `load_encoder`; without workers an `Encoder` too. By name, a
            collection is continued in the precision in which it was begun.
        size, context, layer: as for `Encoder.encode`.
        every, fps: as for `read_video`.
        pool: "none" writes the grid of tokens; "mean" their mean instead; "both" the grid, and the
            mean to the table.
        dtype: of the values in the files, "float16" or "float32". `Features.load` gives float32.
        split: make each stretch of so many of the frames a clip of its own.
        workers: so many actors of Ray, on this machine or at `address`; None: this process.
        address: of a Ray cluster.
    Raises:
        UserError: an argument is out of range; there are no clips; another run writes to `out`, or
            wrote there with other parameters.
        OSError: a source does not exist, `out` cannot be written, or the cluster breaks.
    """
    return run(**locals())[0]


def run(sources, out, encoder, workers=None, address=None, **options):
    """`extract`; the collection, the rows that are new, and what was done in a sentence."""
    options, storage = _checked(workers, **options), Storage(out)
    on_cluster, name = workers is not None or address is not None, encoder
    by_name = isinstance(encoder, (str, os.PathLike))
    if on_cluster and not by_name:
        raise UserError("With workers, encoder must be a name: each of them loads it itself.")
    if by_name and os.path.isdir(name):  # as any process of this machine can load it
        name = os.path.realpath(name)
    with ExitStack() as stack:  # a failed run gives back what it holds
        ray = stack.enter_context(cluster.connected(address)) if on_cluster else None
        if by_name:  # in the precision in which it was begun, bfloat16 on a cluster's GPUs
            gpus = ray and any("GPU" in node for node in cluster.resources(ray))
            precision = storage.table()[1].get("precision", "bfloat16" if gpus else None)
            encoder = load_encoder(encoder, "cpu" if ray else None, precision)
        _try(encoder, **options)
        run = encoder.identity | options
        stack.enter_context(storage.locked())
        rows, todo, before = _plan(sources, storage, run)
        results = ((clip, work_on(clip, encoder, storage.url, run)) for clip in todo)
        if ray:
            prepare = partial(_prepared, name, storage.url, run)
            results = stack.enter_context(closing(cluster.spread(ray, todo, prepare, workers)))
        stack.callback(lambda: storage.write_table(rows.values(), run))
        new, begin = [], time.monotonic()
        bar = tqdm(results, total=before + len(todo), initial=before, unit="clip", leave=False)
        for clip, row in stack.enter_context(bar):
            row = row or _failed(clip, f"{clip.path} was not finished: what read it crashed.")
            rows[clip.name] = row
            new.append(row)
        seconds = time.monotonic() - begin + 1e-9
    done = [row["frames"] for row in new if row["status"] == "done"]
    rate = f"{seconds:.1f} s, {sum(done) / seconds:.0f} frames a second"
    summary = f"{len(done)} clip{'' if len(done) == 1 else 's'} done, {sum(done)} frames in {rate}"
    summary += f"; {before} were done before, {len(new) - len(done)} failed"
    return Collection(out), new, summary


def _checked(workers, every, fps, split, pool, dtype, **options):
    check_rate(every, fps)
    check_counts(split=split, workers=workers)
    if pool not in ("none", "mean", "both"):
        raise UserError(f"pool must be one of none, mean, both, not {pool!r}.")
    if dtype not in ("float16", "float32"):
        raise UserError(f"dtype must be one of float16, float32, not {dtype!r}.")
    every = every or (1 if fps is None else None)
    return options | dict(fps=fps, every=every, pool=pool, dtype=dtype, split=split)


def _try(encoder, size, context, layer, **_):
    """Encode a small frame, so that arguments do not fail clip by clip."""
    side = encoder.patch_size
    encoder.encode(np.zeros((2, side, side, 3), np.uint8), context, (side, side), layer)
    encoder.grid(np.zeros((2, 64, 64, 3), np.uint8), size)


def _plan(sources, storage, run):
    """The rows that stay, {name: row}; the clips to do; and how many of the others are done."""
    run, sizes = json.loads(json.dumps(run)), storage.listing()  # tuples are lists there
    table, run_before = storage.table()
    if table is not None and run_before != run:
        unlike = f"a run with other parameters ({differences(run_before, run)})"
        raise UserError(f"{storage.url} holds features of {unlike}: take another folder.")
    rows = {row["name"]: row for row in (rows_of(table) if table else ())}
    for name in sizes.keys() - rows:  # as a killed run or a lost table leaves them
        rows[name] = storage.row(name, sizes[name], run)
    rows = {n: row for n, row in rows.items() if row and row.get("bytes") == sizes.get(n)}
    clips = find_clips(sources, {row["path"]: n.split("~")[0] for n, row in rows.items()})
    if run["split"]:
        clips = [stretch for clip in clips for stretch in _stretches(clip, **run)]
    paths, identities = {clip.path for clip in clips}, {clip.name: clip.identity for clip in clips}
    for name, row in list(rows.items()):
        done = row["status"] == "done" and row["identity"] == identities.get(name)
        if row["path"] in paths and not done:
            del rows[name]
    storage.write_table(rows.values(), run)  # no row may outlive the file that it is of
    todo = [clip for clip in clips if clip.name not in rows]
    return rows, todo, len(clips) - len(todo)


def _stretches(clip, split, every, fps, **_):
    """The stretches of a film; the clip itself if there is one only, or none can be read."""
    try:
        with warnings.catch_warnings(), local_copy(clip.path) as path:
            warnings.simplefilter("ignore")  # the rows will hold them
            *starts, last = read_video(path, every=every, fps=fps).indices[::split].tolist()
    except (UserError, OSError):
        return [clip]
    parts = [(start, split) for start in starts] + [(last, None)]
    moment = lambda number: f"{number * split / fps:.9f}s" if fps else None
    return [
        replace(clip, name=f"{clip.name}~{n:06d}", start=start, count=count, moment=moment(n))
        for n, (start, count) in enumerate(parts if starts else ())
    ] or [clip]


def _prepared(name, out, run):
    """What works on clips, in a process of its own."""
    encoder = load_encoder(name, dtype=run["precision"])
    if run | encoder.identity != run:
        raise UserError(f"{name} has other weights on this node than where the run began.")
    return partial(work_on, encoder=encoder, out=out, run=run)


def work_on(clip, encoder, out, run):
    """Encode a clip and store its features in `out`: its row, which says why if that fails.

    run: {word: JSON}, `Encoder.identity` and the options of `extract`: what makes the features.
    """
    begin, path = time.perf_counter(), clip.path
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)  # such as that the file is damaged
        try:
            with local_copy(clip.path) as path:
                start = clip.moment or clip.start or 0
                video = read_video(path, start, run["every"], clip.count, run["fps"])
                row = _stored(clip, video, encoder, Storage(out), run, heard)
        except Exception as error:  # the run goes on; a fault that is not a user's is named too
            known = isinstance(error, (UserError, OSError, MemoryError)) and str(error)
            row = _failed(clip, str(error) if known else f"{type(error).__name__}: {error}")
    message = row["message"].replace(str(path), clip.path)
    if message and clip.path not in message:
        message = f"{clip.path}: {message}"
    return row | dict(message=message, seconds=time.perf_counter() - begin)


def _failed(clip, reason):
    return asdict(clip) | dict(status="failed", message=reason)


def _stored(clip, video, encoder, storage, run, heard):
    plan = {name: run[name] for name in ("size", "context")}
    large = 4 * math.prod(encoder.grid(video, **plan)) * encoder.channels > LARGE
    with storage.scratch() as folder:
        out = f"{folder}/features.safetensors" if large else None
        features = encoder.encode(video, **plan, layer=run["layer"], out=out)
        values, frames, times = features.values, features.frames, features.times
        pooled = sum(step.double().sum((0, 1)) for step in values) / math.prod(features.grid)
        told = dict(status="done", message=" ".join(str(warning.message) for warning in heard))
        told["frames"] = int(np.searchsorted(video.indices, int(frames[-1, 1]), "right"))
        told |= dict(times=times.flatten()[[0, -1]].tolist(), grid=list(features.grid))
        told |= dict(encoder=run["encoder"], fingerprint=run["weights"])
        row = asdict(clip) | told | {"device": f"{encoder.device.type}, {run['precision']}"}
        if run["pool"] == "mean":
            values = pooled.float()[None, None, None]
            frames, times = frames.flatten()[[0, -1]][None], times.flatten()[[0, -1]][None]
        arrays = {"frames": frames.numpy(), "times": times.numpy()}
        if run["pool"] != "none":
            arrays["pooled"] = pooled.float().numpy()
        shapes = {name: (array.dtype.type, array.shape) for name, array in arrays.items()}
        shapes["values"] = np.dtype(run["dtype"]).type, values.shape
        described = {name: value for name, value in vars(features).items() if name not in TENSORS}
        top = header(shapes, {"features": described, "row": row, "run": run})
        pieces = itertools.chain([top], arrays.values(), _converted(values, run["dtype"]))
        size = storage.write(clip.name + SUFFIX, pieces)
    return row | {"bytes": size, "pooled": arrays.get("pooled")}


def _converted(values, dtype):
    """Step by step, as what is on the disk may not fit in memory."""
    for step in values:
        converted = step.to(getattr(torch, dtype))
        if not converted.isfinite().all():
            largest = f"{step.abs().max():.3g}"
            raise UserError(f"Its features reach {largest}, beyond float16: take float32.")
        yield converted.contiguous().numpy()
