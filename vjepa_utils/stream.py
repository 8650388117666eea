"""Where features go while they are encoded: to memory, or to a file that allows resuming."""

import json
import math
import os
from pathlib import Path

from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.files import check_writable

CUT_ROOM = 24  # bytes of the header for each step: at most one cut lies in a step


class FeatureFile:
    """A safetensors file, as `Features.save` writes, that grows with the encoding.

    Until it is complete it is called NAME.partial. An interrupted run leaves that, and the same run
    resumes from it.

    Args:
        path: of the whole file.
        run: {word: value}, identifies the computation; equal runs give the same features, bit for
            bit.
        about: the fields of `Features` but values, frames and cuts.  shape: of the values, (steps,
            rows, columns, channels).
        batch: how many steps are written at a time; an incomplete batch is rewritten.
    Then `steps` is how many already exist, and `whole` whether nothing is left to do.
    Raises:
        ValueError: there is a partial file of another run.  OSError: the file cannot be written.
    """

    def __init__(self, path, run, about, shape, batch):
        check_writable(path)
        self.path, self.partial = Path(path), Path(f"{path}.partial")
        self.shape, self.about, self.cuts = shape, about, []
        self.run = {word: str(value) for word, value in run.items()}
        self.whole = self._announced(self.path)[0] == self.run
        self.steps = shape[0] if self.whole else 0
        header = self._header(shape[0])
        self.start, self.step_size = len(header), 4 * shape[1] * shape[2] * shape[3]  # bytes
        if self.whole:
            return
        other, announced, cuts = self._announced(self.partial)
        if other is not None and other != self.run:
            unlike = ", ".join(word for word in self.run if self.run[word] != other.get(word))
            raise UserError(
                f"{self.partial} belongs to another run, with different {unlike}: finish that "
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
            self.cuts = cuts

    def note(self, cuts):
        """File numbers of pairs of frames with a cut between, in steps that `append` will bring."""
        new = [list(pair) for pair in cuts if list(pair) not in self.cuts]  # a batch is rewritten
        if new:
            self.cuts = sorted(self.cuts + new)
            self._write(self._header(self.shape[0]), "r+b")

    def append(self, values):
        """The next steps, (steps, rows, columns, channels)."""
        self._write(values.contiguous().numpy(), "ab")
        self.steps += len(values)

    def finish(self, frames, times):
        """Give the file its name; returns its Features, memory-mapped. frames: as those of
        `Features`.
        """
        if not self.whole:
            # a damaged clip ends early: fewer steps than were announced
            self._write(self._header(self.steps), "r+b")
            self._write(frames.contiguous().numpy(), "ab")
            self._write(times.contiguous().numpy(), "ab")
            os.replace(self.partial, self.path)
        return Features.load(self.path)

    def _header(self, steps):
        """8 bytes of its length, and JSON, padded to one length for any steps and cuts."""
        # Channels are even, so int64 is aligned.
        shape, end = (steps, *self.shape[1:]), 4 * math.prod(self.shape[1:]) * steps
        about = json.dumps(self.about | {"cuts": self.cuts})
        tensors = {
            "__metadata__": {"features": about, "run": json.dumps(self.run)},
            "values": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]},
            "frames": {
                "dtype": "I64",
                "shape": [steps, 2],
                "data_offsets": [end, end + 16 * steps],
            },
            "times": {
                "dtype": "F64",
                "shape": [steps, 2],
                "data_offsets": [end + 16 * steps, end + 32 * steps],
            },
        }
        text = json.dumps(tensors).encode()
        if not hasattr(self, "start"):
            room = -(-(len(text) + CUT_ROOM * self.shape[0]) // 8) * 8
        else:
            room = self.start - 8
        return room.to_bytes(8, "little") + text.ljust(room)

    @staticmethod
    def _announced(path):
        """The `run` of a file, its number of steps, and its cuts; None, 0 and [] where there is no
        file of this kind.
        """
        try:
            with open(path, "rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            about, run = (json.loads(header["__metadata__"][part]) for part in ("features", "run"))
            return run, header["values"]["shape"][0], about["cuts"]
        except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
            return None, 0, []

    def _write(self, data, mode):
        try:
            with open(self.partial, mode) as file:
                file.write(data)
        except OSError as error:
            raise OSError(f"{self.partial} cannot be written: {error.strerror}.") from None
