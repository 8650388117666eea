"""The work on one clip, the same in one process and on a cluster: read it, encode it, write its
file.

A clip is read in stretches that bound memory, most clips in one. The pictures of a stretch are
resized where they are decoded, and encoded where the encoder is.
"""

import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import psutil
import torch

from vjepa_utils.checks import UserError
from vjepa_utils.collection.storage import Storage, local_copy
from vjepa_utils.reading.pixels import resized
from vjepa_utils.video import Video, read_video

FRAMES_AT_ONCE = 4  # frames of the clip's own size that are held at once


@dataclass(frozen=True)
class Job:
    """What to do with each clip.

    out: see `Storage`.  planner: the `Encoder` without its model, which knows sizes.
    encoder, fingerprint, size, context, every, layer, pool, dtype: see `extract`.
    precision: of the computation, the name of a torch.dtype.
    stretch: bytes of resized pictures, float32, that are held for one stretch at most.
    """

    out: str
    planner: object
    encoder: str
    fingerprint: str
    precision: str
    size: int | tuple | None
    context: str | int | None
    every: int
    layer: int | None
    pool: str
    dtype: str
    stretch: int

    @property
    def parameters(self):
        """What makes the features of a clip; {name: str or number}."""
        names = [field.name for field in fields(self)]
        names = [name for name in names if name not in ("out", "planner", "stretch")]
        return {
            name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in names
        }

    def stretches(self, count, picture):
        """(start, stop) of the stretches of a clip of `count` frames, at multiples of the context
        and of about one length. picture: (height, width).
        """
        if self.context == "clip":
            return [(0, count)]
        context = self.context if isinstance(self.context, int) else 2
        most = max(1, self.stretch // (12 * picture[0] * picture[1]) // context) * context
        number = -(-count // most)
        length = -(-count // number // context) * context
        return [(start, min(start + length, count)) for start in range(0, count, length)]

    def picture(self, video):
        """(height, width) that is encoded of a clip."""
        return self.planner.plan(video, self.context, self.size).size


@dataclass
class Part:
    """A stretch of a clip, between reading and writing.

    clip: a Clip.  start, stop: in frames of the clip after `every`.  count: of all its frames.
    frames: (stop - start, height, width, 3), 0 to 255, of the size that is encoded: float32, or
        uint8 where nothing was resized.
    indices, times: of these frames, as those of a `Video`.  source_size: (height, width) of the
        clip.
    row: the part's row, if there is nothing left to do: it is done already, or failed.
    """

    clip: object
    start: int = 0
    stop: int | None = None
    count: int | None = None
    video: object = None
    source_size: tuple = ()
    message: str = ""
    seconds: float = 0.0
    row: dict | None = None

    @property
    def whole(self):
        """Whether it is all of the clip."""
        return self.start == 0 and self.stop == self.count

    @property
    def name(self):
        """Of its file: that of the clip, or one in a folder beside it."""
        return self.clip.name if self.whole else f"{self.clip.name}.parts/{self.start:09d}"


def divide(clip, job):
    """A clip as parts that can be read by themselves, without their frames yet: list of Part. Of
    one that cannot be read, one part, which will fail as it is read.
    """
    try:
        with local_copy(clip.path) as path:
            video = read_video(path, every=job.every)
            ranges = job.stretches(len(video), job.picture(video))
        return [Part(clip, start, stop, len(video)) for start, stop in ranges]
    except Exception:
        return [Part(clip)]


def read(wanted, job):
    """The frames of a clip, or of one part of it that `divide` gave: yields Part."""
    storage, path, begin = Storage(job.out), wanted.clip.path, time.perf_counter()
    try:
        with local_copy(wanted.clip.path) as path:
            video = read_video(path, every=job.every)
            picture, count = job.picture(video), wanted.count or len(video)
            whole = [(wanted.start, wanted.stop)] if wanted.stop else None
            for start, stop in whole or job.stretches(count, picture):
                part = Part(wanted.clip, start, stop, count)
                part.source_size = video.height, video.width
                part.row = finished(part, job, storage)
                if part.row is None:
                    _check_memory(stop - start, picture)
                    part.video = _resized(video, start, stop, picture)
                part.message = _heard().replace(str(path), wanted.clip.path)
                part.seconds, begin = time.perf_counter() - begin, time.perf_counter()
                yield part
                begin = time.perf_counter()
    except Exception as error:
        message = _sentence(error).replace(str(path), wanted.clip.path)
        yield failed(wanted, message, time.perf_counter() - begin)


def encode(part, encoder, job):
    """Encode a part that was read, and write its file: its row, a dict."""
    if part.row is not None:
        return part.row
    begin = time.perf_counter()
    try:
        if not len(part.video):
            return failed(part, part.message, part.seconds, broken=part.start > 0).row
        picture = part.video.height, part.video.width
        features = encoder.encode(part.video, job.context, picture, job.layer)
        features = replace(features, source_size=part.source_size)
        row = _row(part, features, job, f"{encoder.device.type}, {str(encoder.dtype)[6:]}")
        row["message"] = " ".join(filter(None, (part.message, _heard())))
        row["seconds"] = part.seconds + time.perf_counter() - begin
        arrays = _arrays(features, job)
        about = {"features": _about(features), "row": row, "run": _run(part, job)}
        Storage(job.out).write(part.name, arrays, about)
        return row | {"pooled": arrays["pooled"].tolist() if "pooled" in arrays else None}
    except Exception as error:
        return failed(part, _sentence(error), time.perf_counter() - begin + part.seconds).row


def finished(part, job, storage, size=None):
    """The row of a part whose file is there, whole, and of this job; else None. size: as for
    `Storage.header`.
    """
    header = storage.header(part.name, size)
    if header is None or header[0].get("run") != _run(part, job):
        return None
    pooled = storage.array(part.name, "pooled").tolist() if "pooled" in header[1] else None
    return header[0]["row"] | {"pooled": pooled}


def failed(part, message, seconds, broken=False):
    """The part with a row that says why. broken: the file ended before it."""
    about = asdict(part.clip) | _range(part, part.start)
    status = "broken" if broken else "failed"
    return replace(part, row=about | dict(status=status, message=message, seconds=seconds))


def join(rows, job):
    """Join the files of a clip's parts, given by their rows in order: the row of the clip."""
    clip = {key: rows[0][key] for key in ("path", "name", "identity", "bytes")}
    storage = Storage(job.out)
    names = [f"{clip['name']}.parts/{row['start']:09d}" for row in rows]
    headers = [storage.header(name)[0] for name in names]
    row = rows[0] | clip
    row |= dict(stop=rows[-1]["stop"], end=row["count"], whole=True)
    row |= dict(frames=sum(r["frames"] for r in rows))
    row |= dict(times=[rows[0]["times"][0], rows[-1]["times"][1]])
    row |= dict(grid=[sum(r["grid"][0] for r in rows), *rows[0]["grid"][1:]])
    row |= dict(message=" ".join(filter(None, (r["message"] for r in rows))))
    row |= dict(seconds=sum(r["seconds"] for r in rows))
    arrays = {"frames": np.concatenate([storage.array(name, "frames") for name in names])}
    pooled = None
    if job.pool != "none":
        weights = [r["grid"][0] for r in rows]
        pooled = np.average([r["pooled"] for r in rows], 0, weights).astype(np.float32)
        arrays["pooled"] = pooled
    cuts = sum((header["features"]["cuts"] for header in headers), [])
    about = {"features": headers[0]["features"] | {"cuts": cuts}, "row": row | {"pooled": None}}
    ranged = "start", "stop"
    about["run"] = {key: v for key, v in headers[0]["run"].items() if key not in ranged}
    if job.pool == "mean":
        # the parts hold one token each, and so does the clip
        frames = arrays["frames"]
        arrays["frames"] = np.array([[frames.min(), frames.max()]])
        values = pooled.astype(job.dtype)[None, None, None]
        storage.write(clip["name"], arrays | {"values": values}, about)
        storage.fs.rm(storage.path(f"{clip['name']}.parts"), recursive=True)
    else:
        storage.join(clip["name"], names, about, arrays)
    return row | {"pooled": None if pooled is None else pooled.tolist()}


def _check_memory(count, picture):
    """MemoryError if a stretch cannot be held: one context may be longer than any bound."""
    needed, free = 12 * count * picture[0] * picture[1], psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{count} frames to be encoded jointly need {needed / 2**30:.1f} GiB, where "
            f"{free / 2**30:.1f} GiB are free: take a smaller context."
        )


def _resized(video, start, stop, picture):
    """A stretch of a clip as the encoder will take it; shorter, where the file breaks."""
    same = (video.height, video.width) == picture
    frames = np.empty((stop - start, *picture, 3), np.uint8 if same else np.float32)
    done = 0
    for piece in video[:stop].pieces(FRAMES_AT_ONCE, start):
        for frame in piece.frames:
            frames[done] = frame if same else resized(frame, picture).permute(1, 2, 0)
            done += 1
    video = video[start : start + done]
    return Video(video.indices, video.times, None, picture, frames=frames[:done])


def _arrays(features, job):
    """The arrays of a file; the values last, so that parts can be joined by copying."""
    pooled = features.values.flatten(0, 2).mean(0, dtype=torch.float64).float()
    values, frames = features.values, features.frames
    if job.pool == "mean":
        values = pooled[None, None, None]
        frames = torch.stack([frames.min(), frames.max()])[None]
    values = values.to(getattr(torch, job.dtype))
    if not values.isfinite().all():
        raise UserError(
            f"Its features reach {features.values.abs().max():.3g}, beyond float16: take float32."
        )
    own = {} if job.pool == "none" else {"pooled": pooled.numpy()}
    return {"frames": frames.numpy(), **own, "values": values.numpy()}


def _row(part, features, job, device):
    row = asdict(part.clip) | _range(part, part.start + len(part.video))
    row |= dict(status="done", frames=len(part.video))
    row |= dict(times=part.video.times[[0, -1]].tolist(), grid=list(features.grid))
    return row | dict(encoder=job.encoder, fingerprint=job.fingerprint, device=device)


def _range(part, stop):
    """Which frames of the clip a part was to hold, `end`, and does, `stop`."""
    return dict(start=part.start, stop=stop, end=part.stop, count=part.count, whole=part.whole)


def _about(features):
    tensors = ("values", "frames", "times")
    words = [word for word in features.__dataclass_fields__ if word not in tensors]
    return {word: getattr(features, word) for word in words}


def _run(part, job):
    """What a file is of: files of equal runs hold the same features."""
    run = job.parameters | {"identity": part.clip.identity}
    return run if part.whole else run | {"start": part.start, "stop": part.stop}


def _sentence(error):
    """Of the errors that this package raises, their sentence; of others, their kind too."""
    told = isinstance(error, (ValueError, OSError, MemoryError)) and str(error)
    return str(error) if told else f"{type(error).__name__}: {error}"


# Warnings, such as that a file is damaged from some frame on, belong to the clip's row. One thread
# may read while another encodes: each collects its own.
_messages = threading.local()


@contextmanager
def listening():
    """Keep warnings for the rows instead of showing them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: _messages.__dict__.setdefault(
            "heard", []
        ).append(str(message))
        yield


def _heard():
    """The warnings of this thread since it was last asked, as one text."""
    return " ".join(_messages.__dict__.pop("heard", []))
