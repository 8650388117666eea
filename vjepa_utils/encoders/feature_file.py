"""A file of features that grows with the encoding, and goes on where it was stopped."""

import json
import math
import os
from pathlib import Path

from vjepa_utils.features import Features
from vjepa_utils.files import check_writable


class FeatureFile:
    """A safetensors file, as `Features.save` writes, that grows with the encoding.

    Until it is whole it is called NAME.partial. A stopped run leaves that behind, and the same run
    goes on from it.

    Args:
        path: of the whole file.
        run: {word: value}, what is computed of what; runs alike in all of it give the same
            features, bit for bit.
        about: the fields of `Features` but values and frames.  shape: of the values, (steps, rows,
            columns, channels).
        batch: how many steps are written at a time; a batch that was not written whole is written
            anew.
    After it, `steps` are there already; `whole` if nothing is left to do.
    Raises:
        ValueError: there is a partial file of another run.  OSError: the file cannot be written.
    """

    def __init__(self, path, run, about, shape, batch):
        check_writable(path)
        self.path, self.partial = Path(path), Path(f"{path}.partial")
        self.shape, self.about, self.run = (
            shape,
            about,
            {word: str(value) for word, value in run.items()},
        )
        self.whole = self._announced(self.path)[0] == self.run
        self.steps, header = 0, self._header(shape[0])
        self.start, self.step_size = len(header), 4 * shape[1] * shape[2] * shape[3]  # bytes
        if self.whole:
            return
        other, announced = self._announced(self.partial)
        if other is not None and other != self.run:
            unlike = ", ".join(word for word in self.run if self.run[word] != other.get(word))
            raise ValueError(
                f"{self.partial} is of another run, unlike this one in {unlike}: finish that "
                "one, or remove the file."
            )
        if other is None:
            self._write(header, "wb")
        else:
            steps = min(announced, (self.partial.stat().st_size - self.start) // self.step_size)
            self.steps = (
                steps // batch * batch if steps < announced or announced < shape[0] else shape[0]
            )
            os.truncate(self.partial, self.start + self.steps * self.step_size)

    def append(self, values):
        """The next steps, (steps, rows, columns, channels)."""
        self._write(values.contiguous().numpy(), "ab")
        self.steps += len(values)

    def finish(self, frames):
        """Give the file its name; returns its Features, memory-mapped. frames: as those of
        `Features`.
        """
        if not self.whole:
            # a damaged clip ends early: fewer steps than were announced
            self._write(self._header(self.steps), "r+b")
            self._write(frames.contiguous().numpy(), "ab")
            os.replace(self.partial, self.path)
        return Features.load(self.path)

    def _header(self, steps):
        """8 bytes of its length, and JSON, padded to the same length for any number of steps."""
        # channels are even, so int64 is aligned
        shape, end = (
            (steps, *self.shape[1:]),
            4 * math.prod(self.shape[1:]) * steps,
        )
        tensors = {
            "__metadata__": {"features": json.dumps(self.about), "run": json.dumps(self.run)},
            "values": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]},
            "frames": {
                "dtype": "I64",
                "shape": [steps, 2],
                "data_offsets": [end, end + 16 * steps],
            },
        }
        text = json.dumps(tensors).encode()
        room = -(-len(text) // 8) * 8 if steps == self.shape[0] else self.start - 8
        return room.to_bytes(8, "little") + text.ljust(room)

    @staticmethod
    def _announced(path):
        """What `run` a file is of, and of how many steps; None and 0 if there is none, or it is
        another kind of file.
        """
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
