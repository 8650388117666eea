"""Safetensors files that grow while a film is encoded, and that the next run resumes."""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout

from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.files import File, check_writable, replacing, writing

DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
CUT_ROOM = 24  # bytes of the header for each step: at most one cut lies in a step
SECONDS = 2  # so much work is lost at most, when the process is killed or the power fails


class FeatureFile:
    """A safetensors file, as `Features.save` writes, that grows with the encoding.

    Until the end the values are in OUT.partial; OUT.partial.json says of which run they are and how
    many are safe on the disk; OUT.lock keeps other runs away until `close`.

    path: OUT, the whole file.
    run: {word: value}, identifies the computation; UserError if OUT is of another run.
    described: the fields of `Features` but values, frames, times and cuts.
    shape: of the values, (steps, rows, columns, channels).
    batch: how many steps are encoded at a time; an incomplete batch is encoded again.
    """

    def __init__(self, path: File, run: dict, described: dict, shape: tuple, batch: int):
        check_writable(path)
        self.path, self.partial = Path(path), Path(f"{path}.partial")
        self.journal, self.saved = Path(f"{path}.partial.json"), time.monotonic()
        self.described, self.shape, self.cuts, self.steps = described, shape, [], 0
        self.run = {word: str(value) for word, value in run.items()}
        self.start = len(self._header(shape[0])) + CUT_ROOM * 8 * -(-shape[0] // 8)
        with ExitStack() as held:  # a failure gives the lock back
            held.enter_context(locked(path))
            self.whole = self.path.exists()
            if self.whole:
                with open(self.path, "rb") as file:
                    metadata, _ = read_header(file, self.path.stat().st_size)
                self._check(self.path, metadata.get("run"))
                self.steps = shape[0]
            else:
                self._resume(batch)
            self.lock = held.pop_all()

    def append(self, values: torch.Tensor, cuts: list) -> None:
        """As `FeatureList.append`."""
        # a batch that was encoded in part comes again, and so do its cuts
        self.cuts = sorted(self.cuts + [list(p) for p in cuts if list(p) not in self.cuts])
        self._write("ab", values.contiguous().numpy())
        self.steps += len(values)
        if time.monotonic() - self.saved > SECONDS:
            self._save()

    def finish(self, frames: torch.Tensor, times: torch.Tensor) -> Features:
        """Give the file its name; its `Features`, memory-mapped."""
        if not self.whole:
            self._write("ab", frames.contiguous().numpy())
            self._write("ab", times.contiguous().numpy())
            # a damaged clip ends early: fewer steps than were announced
            self._write("r+b", self._header(self.steps, self.start))
            os.replace(self.partial, self.path)
            self.journal.unlink(missing_ok=True)
            self.whole = True
        self.close()
        return Features.load(self.path)

    def close(self) -> None:
        """Keep what was encoded, and let other runs write."""
        with suppress(OSError):  # a full disk, which `append` has told
            if not self.whole:
                self._save()
        self.lock.close()

    def _header(self, steps, size=0):
        shapes = {"values": (np.float32, (steps, *self.shape[1:]))}
        shapes |= {"frames": (np.int64, (steps, 2)), "times": (np.float64, (steps, 2))}
        described = self.described | {"cuts": self.cuts}
        return header(shapes, {"features": described, "run": self.run}, size)

    def _check(self, path, run):
        if run != self.run:
            unlike = differences(run, self.run) if run else "it is damaged, or of another kind"
            raise UserError(f"{path} belongs to another run ({unlike}): remove or rename it.")

    def _resume(self, batch):
        """Take what is safe in OUT.partial, and cut off the rest."""
        step_size = 4 * math.prod(self.shape[1:])  # bytes
        if self.partial.exists() and self.journal.exists():
            journal = json.loads(self.journal.read_text())
            self._check(self.partial, journal["run"])
            there = (self.partial.stat().st_size - self.start) // step_size
            steps, self.cuts = max(0, min(journal["steps"], there)), journal["cuts"]
            self.steps = steps if steps == self.shape[0] else steps // batch * batch
        if self.steps == 0:
            self._write("wb", bytes(self.start))
        os.truncate(self.partial, self.start + self.steps * step_size)

    def _write(self, mode, data):
        with writing(self.partial), open(self.partial, mode) as file:
            file.write(data)
            file.flush()
            if mode == "r+b":
                os.fsync(file.fileno())

    def _save(self):
        """Have the values safe on the disk, then say so."""
        self._write("r+b", b"")
        with replacing(self.journal) as temporary, open(temporary, "w") as file:
            json.dump({"run": self.run, "steps": self.steps, "cuts": self.cuts}, file)
            file.flush()
            os.fsync(file.fileno())
        self.saved = time.monotonic()


@contextmanager
def locked(path: File) -> Iterator[None]:
    """The sole right to write a file or folder; UserError if another run has it."""
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        remedy = "wait until it ends, or give another name"
        raise UserError(f"Another run is writing {path}: {remedy}.") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            os.unlink(lock.lock_file)
        lock.release()


def differences(there: dict, here: dict) -> str:
    """Which parameters of two runs differ, in words."""
    unlike = [word for word in here if there.get(word) != here[word]]
    return "; ".join(f"{word} {there.get(word)!r} there, {here[word]!r} here" for word in unlike)


def header(shapes: dict, metadata: dict, size: int = 0) -> bytes:
    """The first bytes of a safetensors file, so many or as are needed: 8 of their number, and JSON
    of {name: (numpy type, shape)} in the order of the file, and of metadata {name: JSON}.
    """
    tensors, end = {"__metadata__": {key: json.dumps(v) for key, v in metadata.items()}}, 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + math.prod(shape) * np.dtype(dtype).itemsize
        tensors[name] = dict(dtype=NAMES[dtype], shape=list(shape), data_offsets=[start, end])
    text = json.dumps(tensors).encode()
    room = size - 8 if size else -(-len(text) // 8) * 8  # aligned
    return room.to_bytes(8, "little") + text.ljust(room)


def read_header(file: BinaryIO, size: int) -> tuple[dict, dict]:
    """The metadata of a safetensors file of `size` bytes, and {name: (numpy type, shape, first
    byte)}; both empty if it is incomplete or of another kind.
    """
    try:
        start = 8 + int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(start - 8)) if start <= size else {}
        metadata = {key: json.loads(text) for key, text in tensors.pop("__metadata__").items()}
        ends = [start + tensor["data_offsets"][1] for tensor in tensors.values()]
        place = lambda t: (DTYPES[t["dtype"]], tuple(t["shape"]), start + t["data_offsets"][0])
        arrays = {name: place(tensor) for name, tensor in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, {}
    return (metadata, arrays) if ends and max(ends) == size else ({}, {})
