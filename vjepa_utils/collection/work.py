"""The work on one clip, the same in one process and on a cluster: encode it, store its features."""

from __future__ import annotations

import itertools
import json
import math
import time
import warnings
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch

from vjepa_utils.checks import UserError
from vjepa_utils.collection.storage import Storage, local_copy
from vjepa_utils.features import TENSORS
from vjepa_utils.video import read_video

LARGE = 2**30  # bytes of features, float32, above which they are not held in memory
PIECE = 2**24  # values that are converted at once


@dataclass(frozen=True)
class Clip:
    """One clip of many.

    path: a local file or folder of images, absolute, or a URL that fsspec reads.
    name: of its file in the collection, without the suffix; "/" divides folders.
    identity: changes when the clip is rewritten; "" where there is none.
    start: the first frame of a stretch of a film; None for a whole clip.
    count: of its frames that are taken; None for all that follow.
    """

    path: str
    name: str
    identity: str
    start: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Job:
    """What to do with each clip.

    out: of a `Storage`.
    encoder: `Encoder.identity`.
    size, context, every, layer, pool, dtype, split: see `extract`.
    """

    out: str
    encoder: dict
    size: int | tuple | None
    context: str | int | None
    every: int
    layer: int | None
    pool: str
    dtype: str
    split: int | None

    @property
    def parameters(self):
        """What makes the features of a clip: {name: JSON}."""
        values = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        return json.loads(json.dumps(self.encoder | values))  # tuples are lists there


def work_on(clip, encoder, job):
    """Encode a clip and store its features: its row, a dict, which says why if that fails.

    clip: a `Clip`.
    encoder: an `Encoder`.
    job: a `Job`.
    """
    begin, path = time.perf_counter(), clip.path
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)  # such as that the file is damaged
        try:
            with local_copy(clip.path) as path:
                video = read_video(path, clip.start or 0, job.every, clip.count)
                row = _store(clip, video, encoder, job, heard)
        except Exception as error:  # the run goes on; a fault that is not a user's is named too
            known = isinstance(error, (UserError, OSError, MemoryError)) and str(error)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            row = failed(clip, reason)
    message = row["message"].replace(str(path), clip.path)
    return row | dict(message=message, seconds=time.perf_counter() - begin)


def _store(clip, video, encoder, job, heard):
    """Encode a clip and write its file; its row."""
    storage = Storage(job.out)
    size = 4 * math.prod(encoder.grid(video, job.size, job.context)) * encoder.channels
    with storage.scratch() as folder:
        out = folder / "features.safetensors" if size > LARGE else None
        features = encoder.encode(video, job.context, job.size, job.layer, out=out)
        values, frames, times = features.values, features.frames, features.times
        pooled = sum(step.double().sum((0, 1)) for step in values) / math.prod(features.grid)
        row = asdict(clip) | dict(
            status="done",
            message=" ".join(str(warning.message) for warning in heard),
            frames=int(np.searchsorted(video.indices, int(frames[-1, 1]), "right")),
            times=[float(times[0, 0]), float(times[-1, 1])],
            grid=list(features.grid),
            encoder=job.encoder["encoder"],
            fingerprint=job.encoder["weights"],
            device=f"{encoder.device.type}, {job.encoder['precision']}",
        )
        if job.pool == "mean":
            values = pooled.float()[None, None, None]
            frames, times = frames.flatten()[[0, -1]][None], times.flatten()[[0, -1]][None]
        arrays = {"frames": frames.numpy(), "times": times.numpy()}
        if job.pool != "none":
            arrays["pooled"] = pooled.float().numpy()
        shapes = {name: (array.dtype.type, array.shape) for name, array in arrays.items()}
        shapes["values"] = np.dtype(job.dtype).type, values.shape
        described = {name: value for name, value in vars(features).items() if name not in TENSORS}
        metadata = {"features": described, "row": row, "run": job.parameters}
        pieces = itertools.chain(arrays.values(), _converted(values, getattr(torch, job.dtype)))
        size = storage.write(clip.name, shapes, metadata, pieces)
    return row | {"bytes": size, "pooled": arrays.get("pooled")}


def _converted(values, dtype):
    """The values in pieces, as numpy arrays. UserError if float16 cannot hold them."""
    for piece in values.split(max(1, PIECE // values[0].numel())):
        converted = piece.to(dtype)
        if not converted.isfinite().all():
            raise UserError(
                f"Its features reach {piece.abs().max():.3g}, beyond float16: take float32."
            )
        yield converted.numpy()


def failed(clip, reason):
    """The row of a clip that failed."""
    return asdict(clip) | dict(status="failed", message=reason)
