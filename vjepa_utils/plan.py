"""The plan of a call of `encode`: which frames attend to each other, and on which grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vjepa_utils.annotations import Grid


@dataclass(frozen=True)
class Plan:
    """How the frames of a clip become tokens; all arithmetic of steps.

    frames: how many the clip has.  context: how many are encoded jointly; the last ones may be
    fewer, and an odd last frame is paired with itself.  size: (height, width) that is encoded, in
    pixels.  patch_size: side of a patch.  once: a frame that is a context by itself is encoded
    once, through an image branch, and not twice as a pair.
    """

    frames: int
    context: int
    size: tuple
    patch_size: int
    once: bool = False

    @property
    def grid(self) -> Grid:
        """(steps, rows, columns)."""
        full, rest = divmod(self.frames, self.context)
        return full * self.steps_of(self.context) + self.steps_of(rest), *self.picture_grid

    @property
    def picture_grid(self) -> tuple[int, int]:
        """(rows, columns)."""
        return tuple(side // self.patch_size for side in self.size)

    @property
    def steps(self) -> int:
        """Of a full context."""
        return self.steps_of(self.context)

    @property
    def tokens(self) -> int:
        """Of a full context."""
        rows, columns = self.picture_grid
        return self.steps * rows * columns

    @staticmethod
    def steps_of(frames: int) -> int:
        return -(-frames // 2)

    def first_frame(self, step: int) -> int:
        """Position of the first frame of a step that begins a context; the clip's end after all."""
        return min(step // self.steps * self.context, self.frames)

    def groups(self, count: int) -> Iterator[np.ndarray]:
        """Positions of `count` frames in contexts: one or two arrays (groups, even length), or
        (groups, 1) with `once`.
        """
        full = count // self.context * self.context
        for positions, length in (
            (np.arange(full), self.context),
            (np.arange(full, count), count - full),
        ):
            if len(positions):
                group = positions.reshape(-1, length)
                odd = length % 2 and not (self.once and self.context == 1)
                yield np.concatenate([group, group[:, -1:]], 1) if odd else group

    def covered(self, indices: np.ndarray) -> torch.Tensor:
        """File numbers of the frames that each step covers: int64 tensor (steps, 2).

        indices: those of all frames of the clip.
        """
        plan = replace(self, once=False)  # a frame that was seen once is named twice too
        pairs = [indices[group].reshape(-1, 2) for group in plan.groups(len(indices))]
        return torch.from_numpy(np.concatenate(pairs).astype(np.int64))
