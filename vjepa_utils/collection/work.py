"""The work on one clip, the same in one process and on a cluster: encode it, store its features."""

from __future__ import annotations

import itertools
import json
import math
import time
import warnings
from dataclasses import asdict, dataclass

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
    """One clip of many, or a stretch of a film, of `count` frames from frame `start` on."""

    path: str  # of a local file or folder of images, absolute, or a URL that fsspec reads
    name: str  # of its file in the collection, without the suffix; "/" divides folders
    identity: str  # changes when the clip is rewritten; "" where there is none
    start: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Job:
    """What to do with each clip: out of a `Storage`, `Encoder.identity`, options of `extract`."""

    out: str
    encoder: dict
    options: dict

    @property
    def parameters(self):
        """What makes the features of a clip: {name: JSON}."""
        return json.loads(json.dumps(self.encoder | self.options))  # tuples are lists there


def work_on(clip, encoder, job):
    """Encode a clip and store its features: its row, a dict, which says why if that fails."""
    begin, path = time.perf_counter(), clip.path
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)  # such as that the file is damaged
        try:
            with local_copy(clip.path) as path:
                video = read_video(path, clip.start or 0, job.options["every"], clip.count)
                row = _store(clip, video, encoder, job, heard)
        except Exception as error:  # the run goes on; a fault that is not a user's is named too
            known = isinstance(error, (UserError, OSError, MemoryError)) and str(error)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            row = failed(clip, reason)
    message = row["message"].replace(str(path), clip.path)
    return row | dict(message=message, seconds=time.perf_counter() - begin)


def _store(clip, video, encoder, job, heard):
    storage, options = Storage(job.out), job.options
    pool, dtype = options["pool"], options["dtype"]
    how = {name: options[name] for name in ("size", "context")}
    large = 4 * math.prod(encoder.grid(video, **how)) * encoder.channels > LARGE
    with storage.scratch() as folder:
        out = folder / "features.safetensors" if large else None
        features = encoder.encode(video, **how, layer=options["layer"], out=out)
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
        if pool == "mean":
            values = pooled.float()[None, None, None]
            frames, times = frames.flatten()[[0, -1]][None], times.flatten()[[0, -1]][None]
        arrays = {"frames": frames.numpy(), "times": times.numpy()}
        if pool != "none":
            arrays["pooled"] = pooled.float().numpy()
        shapes = {name: (array.dtype.type, array.shape) for name, array in arrays.items()}
        shapes["values"] = np.dtype(dtype).type, values.shape
        described = {name: value for name, value in vars(features).items() if name not in TENSORS}
        metadata = {"features": described, "row": row, "run": job.parameters}
        pieces = itertools.chain(arrays.values(), _converted(values, getattr(torch, dtype)))
        size = storage.write(clip.name, shapes, metadata, pieces)
    return row | {"bytes": size, "pooled": arrays.get("pooled")}


def _converted(values, dtype):
    for piece in values.split(max(1, PIECE // values[0].numel())):
        converted = piece.to(dtype)
        if not converted.isfinite().all():
            raise UserError(
                f"Its features reach {piece.abs().max():.3g}, beyond float16: take float32."
            )
        yield converted.numpy()


def failed(clip, reason):
    return asdict(clip) | dict(status="failed", message=reason)
