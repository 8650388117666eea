"""The one data type that carries latents through everything, and the file it is written to, at once or as it comes."""

import json
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


@dataclass
class Features:
    """Features of a clip on its grid.

    values: float32 tensor on the CPU, (steps, rows, columns, channels).
    frames: int64 tensor (steps, 2), file numbers of the frames that each step covers.
    patch_size: side of a patch in pixels of the encoded picture.
    picture_size: (height, width) that was encoded.  source_size: (height, width) of the clip.
    encoder: name of the checkpoint.
    """

    values: torch.Tensor
    frames: torch.Tensor
    patch_size: int
    picture_size: tuple
    source_size: tuple
    encoder: str

    @property
    def grid(self):
        """(steps, rows, columns)."""
        return tuple(self.values.shape[:3])

    def __getitem__(self, steps):
        """The features of some steps, a slice: features[2:3]."""
        if not isinstance(steps, slice):
            raise TypeError("Features take slices of steps, such as features[2:3]; single tokens are in features.values")
        return replace(self, values=self.values[steps], frames=self.frames[steps])

    def cover(self, mask):
        """Share of each patch that a mask covers: (H, W) bool or 0/1, of the clip's size, to (rows, columns) float32, 0 to 1."""
        mask = torch.as_tensor(mask).float()
        if tuple(mask.shape) != tuple(self.source_size):
            raise ValueError(f"The mask must have the clip's size {tuple(self.source_size)}, not {tuple(mask.shape)}.")
        return torch.nn.functional.adaptive_avg_pool2d(mask[None, None], self.grid[1:])[0, 0]

    def token_at(self, point):
        """(row, column) of the patch under a point (x, y) in pixels of the clip; ValueError outside of it."""
        x, y = (float(v) for v in point)
        height, width = self.source_size
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(f"The point ({x:g}, {y:g}) lies outside the picture, which is {width}×{height} pixels.")
        _, rows, columns = self.grid
        return min(int(y / height * rows), rows - 1), min(int(x / width * columns), columns - 1)

    def centre_of(self, row, column):
        """The point (x, y), in pixels of the clip, at the centre of a patch; ValueError outside the grid."""
        _, rows, columns = self.grid
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(f"There is no patch ({row}, {column}) on a grid of {rows} rows and {columns} columns.")
        height, width = self.source_size
        return (column + 0.5) * width / columns, (row + 0.5) * height / rows

    def save(self, path):
        """Write a safetensors file; nothing is left behind when that fails."""
        about = {name: getattr(self, name) for name in ("patch_size", "picture_size", "source_size", "encoder")}
        tensors = {"values": self.values.contiguous(), "frames": self.frames.contiguous()}
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"features": json.dumps(about)})

    @classmethod
    def load(cls, path):
        """Read what `save` or `encode(out=…)` wrote, memory-mapped; ValueError for any other file."""
        tensors, about = read_safetensors(path, "features")
        for name in ("picture_size", "source_size"):
            about[name] = tuple(about[name])
        return cls(**tensors, **about)


class FeatureFile:
    """A safetensors file, as `Features.save` writes, that grows with the encoding.

    Until it is whole it is called NAME.partial. A stopped run leaves that behind, and the same run goes on from it.

    Args:
        path: of the whole file.
        run: {word: value}, what is computed of what; runs alike in all of it give the same features, bit for bit.
        about: the fields of `Features` but values and frames.  shape: of the values, (steps, rows, columns, channels).
        batch: how many steps are written at a time; a batch that was not written whole is written anew.
    After it, `steps` are there already; `whole` if nothing is left to do.
    Raises:
        ValueError: there is a partial file of another run.  OSError: the file cannot be written.
    """

    def __init__(self, path, run, about, shape, batch):
        check_writable(path)
        self.path, self.partial = Path(path), Path(f"{path}.partial")
        self.shape, self.about, self.run = shape, about, {word: str(value) for word, value in run.items()}
        self.whole = self._announced(self.path)[0] == self.run
        self.steps, header = 0, self._header(shape[0])
        self.start, self.step_size = len(header), 4 * shape[1] * shape[2] * shape[3]  # bytes
        if self.whole:
            return
        other, announced = self._announced(self.partial)
        if other is not None and other != self.run:
            unlike = ", ".join(word for word in self.run if self.run[word] != other.get(word))
            raise ValueError(f"{self.partial} is of another run, unlike this one in {unlike}: finish that one, or remove the file.")
        if other is None:
            self._write(header, "wb")
        else:
            steps = min(announced, (self.partial.stat().st_size - self.start) // self.step_size)
            self.steps = steps // batch * batch if steps < announced or announced < shape[0] else shape[0]
            os.truncate(self.partial, self.start + self.steps * self.step_size)

    def append(self, values):
        """The next steps, (steps, rows, columns, channels)."""
        self._write(values.contiguous().numpy(), "ab")
        self.steps += len(values)

    def finish(self, frames):
        """Give the file its name; returns its Features, memory-mapped. frames: as those of `Features`."""
        if not self.whole:
            self._write(self._header(self.steps), "r+b")  # a damaged clip ends early: fewer steps than were announced
            self._write(frames.contiguous().numpy(), "ab")
            os.replace(self.partial, self.path)
        return Features.load(self.path)

    def _header(self, steps):
        """8 bytes of its length, and JSON, padded so that its length does not depend on the steps."""
        shape, end = (steps, *self.shape[1:]), 4 * math.prod(self.shape[1:]) * steps  # channels are even, so int64 is aligned
        tensors = {
            "__metadata__": {"features": json.dumps(self.about), "run": json.dumps(self.run)},
            "values": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]},
            "frames": {"dtype": "I64", "shape": [steps, 2], "data_offsets": [end, end + 16 * steps]},
        }
        text = json.dumps(tensors).encode()
        room = -(-len(text) // 8) * 8 if steps == self.shape[0] else self.start - 8
        return room.to_bytes(8, "little") + text.ljust(room)

    @staticmethod
    def _announced(path):
        """What `run` a file is of, and of how many steps; None and 0 if there is none, or it is another kind of file."""
        try:
            with open(path, "rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            return json.loads(header["__metadata__"]["run"]), header["values"]["shape"][0]
        except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
            return None, 0

    def _write(self, data, mode):
        try:
            with open(self.partial, mode) as file:
                file.write(data)
        except OSError as error:
            raise OSError(f"{self.partial} cannot be written: {error.strerror}.") from None


def check_writable(path):
    """OSError, in one sentence, if `path` cannot become a file."""
    path = Path(path)
    if not path.parent.is_dir():
        raise OSError(f"{path} cannot be written: there is no folder {path.parent}.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OSError(f"{path} cannot be written: it is a folder, or in one you may not write to.")


@contextmanager
def replacing(path):
    """A temporary name beside `path` to write to; it takes the place of `path` only once all is written."""
    check_writable(path)
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # a full disk, a file system that takes no files
        raise OSError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def read_safetensors(path, kind):
    """Tensors and description of a file that one of this package's `save` methods wrote."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()[kind])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118  no dict
    except (SafetensorError, TypeError, KeyError):
        raise ValueError(f"{path} is no {kind} file: it was not written by save().") from None
