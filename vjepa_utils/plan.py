"""The plan of a call of `encode`: which frames attend to each other, and on which grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.video import Context, Grid, Size


@dataclass(frozen=True)
class Plan:
    """How the frames of a clip become tokens; all arithmetic of steps.

    frames: how many the clip has.
    context: how many are encoded jointly; the last ones may be fewer, and an odd last frame is
        paired with itself.
    size: (height, width) that is encoded, in pixels.
    patch_size: side of a patch in pixels.
    stride: pixels between tokens, a divisor of the patch.
    once: a frame that is a context by itself is encoded once and not twice as a pair.
    overlap: frames that a context shares with the next, an even number.
    repeat: how often a frame that is a context by itself is fed, if not once.
    """

    frames: int
    context: int
    size: tuple
    patch_size: int
    stride: int
    once: bool = False
    overlap: int = 0
    repeat: int = 2

    def __post_init__(self):
        whole = is_whole(self.overlap, 0) and self.overlap % 2 == 0
        if not whole or (self.overlap and self.overlap >= self.context):
            raise UserError(
                "overlap must be an even number of frames that windows of an even, larger context "
                f"share, such as context=16, overlap=8, not {self.overlap!r}."
            )
        if not is_whole(self.stride, 1) or self.patch_size % self.stride:
            raise UserError(
                f"stride must be a divisor of the patch, {self.patch_size}, not {self.stride!r}."
            )
        often = self.repeat != 2
        if not is_whole(self.repeat, 2) or self.repeat % 2 or (often and self.context > 1):
            raise UserError(
                'repeat must be an even number, how often context="frame" feeds a frame, such as '
                f"16, not {self.repeat!r}."
            )

    @property
    def grid(self) -> Grid:
        """(steps, rows, columns)."""
        full, rest = divmod(self.frames, self.context)
        return full * self.steps + -(-rest // 2), *self.picture_grid

    @property
    def picture_grid(self) -> tuple[int, int]:
        """(rows, columns)."""
        return tuple(
            side // self.patch_size * (self.patch_size // self.stride) for side in self.size
        )

    @property
    def steps(self) -> int:
        """Of a full context."""
        return -(-self.context // 2)

    @property
    def tokens(self) -> int:
        """Of a full context, that attend to each other."""
        rows, columns = (side // self.patch_size for side in self.size)
        steps = self.repeat // 2 if self.context == 1 else self.steps
        return steps * rows * columns

    @property
    def hop(self) -> int:
        """Frames from the start of a context to that of the next."""
        return self.context - self.overlap

    def resume(self, step: int) -> tuple[int, int]:
        """Position of the frame to start at so that this step is the next that is finished, and how
        many steps before it are then encoded again because contexts overlap.
        """
        if step == self.grid[0]:
            return self.frames, 0
        steps = -(-self.hop // 2)
        again = min(step // steps, -(-self.overlap // self.hop))
        return (step // steps - again) * self.hop, again * steps

    def groups(self, count: int) -> Iterator[np.ndarray]:
        """Positions of `count` frames in contexts: one or two arrays (groups, even length), or
        (groups, 1) with `once`; a frame by itself is repeated.
        """
        starts = np.arange(0, max(count - self.overlap, 1), self.hop)
        full = starts[starts + self.context <= count]
        for first, length in ((full, self.context), (starts[len(full) :], count - starts[-1])):
            if len(first):
                group = first[:, None] + np.arange(length)
                if self.context == 1:
                    yield group if self.once else group.repeat(self.repeat, 1)
                else:
                    yield np.concatenate([group, group[:, -1:]], 1) if length % 2 else group

    def covered(self, of_frames: np.ndarray) -> torch.Tensor:
        """Of the two frames that each step covers, a value of each frame of the clip, such as its
        number in the file: (frames,) to a tensor (steps, 2).
        """
        # a frame that was seen once or often is named twice too
        plan = replace(self, once=False, overlap=0, repeat=2)
        pairs = [of_frames[group].reshape(-1, 2) for group in plan.groups(len(of_frames))]
        return torch.from_numpy(np.concatenate(pairs))


def context_length(context: Context, frames: int, named: dict) -> int:
    """How many of the frames of a clip attend to each other; `named` has the words for lengths,
    "clip" aside.
    """
    named = named | {"clip": frames}
    if isinstance(context, (str, type(None))) and context in named:
        return named[context]
    if is_whole(context, 2) and context % 2 == 0:
        return int(context)
    names = ", ".join(f'"{name}"' for name in named if name)
    raise UserError(f"context must be {names} or an even number of frames, not {context!r}.")


def picture_size(height: int, width: int, size: Size, patch: int, least: int) -> tuple[int, int]:
    """The size (height, width) that a picture is encoded at, in pixels; `size` as for
    `Encoder.encode`. Where it is None the short side is 16 patches, or `least` if that is larger.
    """
    if isinstance(size, (tuple, list)):
        if len(size) != 2 or not all(is_whole(v, patch) and v % patch == 0 for v in size):
            raise UserError(
                f"size must be (height, width) in multiples of the patch, {patch} pixels, not "
                f"{size!r}."
            )
        return tuple(int(v) for v in size)
    size = max(16 * patch, least) if size is None else size
    if not is_whole(size, patch):
        raise UserError(
            f"size must be a number of pixels of at least the patch, {patch}, or (height, width), "
            f"not {size!r}."
        )
    return tuple(
        max(1, int(side * size / min(height, width) / patch + 0.5)) * patch
        for side in (height, width)
    )


class Blend:
    """Joins contexts that overlap to the steps of a clip: means with weights that fall towards both
    ends of a context, so that no seam shows.

    plan: a `Plan`.
    again: how many of the first steps are left out, which are there already.
    """

    def __init__(self, plan: Plan, again: int = 0):
        self.shared, self.again = plan.overlap // 2, again
        self.total, self.weights = None, None  # of the steps that the next context shares

    def join(self, contexts: torch.Tensor) -> torch.Tensor:
        """Steps that no further context changes, (steps, rows, columns, channels), of the next
        contexts, (contexts, steps, rows, columns, channels).
        """
        if not self.shared:
            return contexts.flatten(0, 1)
        finished = []
        for context in contexts:
            at = torch.arange(len(context))
            weights = torch.minimum(at + 1, len(context) - at).float().view(-1, 1, 1, 1)
            total = context * weights
            if self.total is not None:
                total[: self.shared] += self.total
                weights[: self.shared] += self.weights
            done = len(context) - self.shared
            finished.append(total[:done] / weights[:done])
            self.total, self.weights = total[done:], weights[done:]
        return self._new(torch.cat(finished))

    def rest(self) -> torch.Tensor | None:
        """The steps that are left after the last context."""
        return None if self.total is None else self._new(self.total / self.weights)

    def _new(self, steps):
        again = min(self.again, len(steps))
        self.again -= again
        return steps[again:]
