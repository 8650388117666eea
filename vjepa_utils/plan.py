"""The plan of a call of `encode`: which frames attend to each other, on which grid, and where the
features go.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.features import Features
from vjepa_utils.model.devices import check_fits
from vjepa_utils.video import Context, Grid, Size, Video


@dataclass(frozen=True)
class Plan:
    """How frames become tokens; an odd last frame of a context is paired with itself."""

    frames: int  # of the clip
    context: int  # frames that are encoded jointly; the last ones may be fewer
    size: tuple  # (height, width) that is encoded, in pixels
    patch_size: int  # side of a patch in pixels
    stride: int  # pixels between tokens, a divisor of the patch
    once: bool = False  # a frame that is a context by itself is fed once
    overlap: int = 0  # frames that a context shares with the next, an even number
    repeat: int = 2  # how often a frame that is a context by itself is fed, if not once

    def __post_init__(self):
        even = is_whole(self.overlap, 0) and self.overlap % 2 == 0
        if not even or (self.overlap and self.overlap >= self.context):
            remedy = "an even number below an even context, such as 8 of 16 frames"
            raise UserError(f"overlap must be {remedy}, not {self.overlap!r}.")
        if not is_whole(self.stride, 1) or self.patch_size % self.stride:
            divisor = f"a divisor of the patch, {self.patch_size}"
            raise UserError(f"stride must be {divisor}, not {self.stride!r}.")
        even = is_whole(self.repeat, 2) and self.repeat % 2 == 0
        if not even or (self.repeat > 2 and self.context > 1):
            remedy = 'an even number, and 2 unless context is "frame"'
            raise UserError(f"repeat must be {remedy}, not {self.repeat!r}.")

    @property
    def grid(self) -> Grid:
        full, rest = divmod(self.frames, self.context)
        return full * self.steps + -(-rest // 2), *self.picture_grid

    @property
    def picture_grid(self) -> tuple[int, int]:
        height, width = (side // self.patch_size for side in self.size)
        return height * self.patch_size // self.stride, width * self.patch_size // self.stride

    @property
    def steps(self) -> int:
        """Of a full context."""
        return -(-self.context // 2)

    @property
    def tokens(self) -> int:
        """Of a full context, that attend to each other."""
        steps = self.repeat // 2 if self.context == 1 else self.steps
        return steps * math.prod(side // self.patch_size for side in self.size)

    @property
    def hop(self) -> int:
        """Frames from the start of a context to that of the next."""
        return self.context - self.overlap

    def resume(self, step: int) -> tuple[int, int]:
        """Position of the frame to start at so that this step is the next that is finished; how
        many steps before it are then encoded again, as contexts overlap.
        """
        if step == self.grid[0]:
            return self.frames, 0
        steps = -(-self.hop // 2)
        again = min(step // steps, -(-self.overlap // self.hop))
        return (step // steps - again) * self.hop, again * steps

    def groups(self, count: int) -> Iterator[np.ndarray]:
        """Positions of `count` frames in contexts: one or two arrays (groups, length)."""
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
        """Of a value of each frame those of the two that each step covers: (steps, 2)."""
        if self.context == 1:  # each frame twice, else an odd last one
            return torch.from_numpy(of_frames.repeat(2).reshape(-1, 2))
        odd = len(of_frames) % 2
        return torch.from_numpy(np.append(of_frames, of_frames[-1:][:odd]).reshape(-1, 2))


def context_length(context: Context, frames: int, named: dict) -> int:
    """How many frames of a clip attend to each other, by words and their numbers (None: all)."""
    if isinstance(context, (str, type(None))) and context in named:
        return named[context] or frames
    if "clip" not in named:
        allowed = 'An image encoder reads single frames: context must be "frame" or "pair"'
        raise UserError(f"{allowed}, not {context!r}.")
    if not is_whole(context, 2) or context % 2:
        names = ", ".join(f'"{name}"' for name in named if name)
        raise UserError(f"context must be {names} or an even number of frames, not {context!r}.")
    return int(context)


def picture_size(height: int, width: int, size: Size, patch: int, least: int) -> tuple[int, int]:
    """(height, width) that a picture is encoded at, in pixels; `size` as for `Encoder.encode`: for
    None the short side is 16 patches, or `least` if that is larger.
    """
    if isinstance(size, (tuple, list)):
        if len(size) != 2 or not all(is_whole(v, patch) and v % patch == 0 for v in size):
            sides = f"(height, width) in multiples of the patch, {patch} pixels"
            raise UserError(f"size must be {sides}, not {size!r}.")
        return int(size[0]), int(size[1])
    size = max(16 * patch, least) if size is None else size
    if not is_whole(size, patch):
        sides = f"a number of pixels of at least the patch, {patch}, or (height, width)"
        raise UserError(f"size must be {sides}, not {size!r}.")
    nearest = lambda side: max(1, int(side * size / min(height, width) / patch + 0.5)) * patch
    return nearest(height), nearest(width)


def open_sink(encoder, video: Video, plan: Plan, layer, out):
    """What the features of a layer are appended to: memory, or a `FeatureFile` that resumes."""
    shape = *plan.grid, encoder.channels * encoder.named_layers.get(layer, 1)
    described = encoder.describe(video, plan, layer)
    if out is None:
        what = "Features of {} steps of {}×{} tokens".format(*shape)
        remedy = 'give out="film.safetensors", take fewer frames or a smaller size'
        check_fits(4 * math.prod(shape), torch.device("cpu"), what, lambda share: remedy)
        return FeatureList(described)
    from vjepa_utils.stream import FeatureFile  # only for files

    if video.path and Path(out).resolve() == video.path.resolve():
        raise UserError(f"out names the clip itself, {out}: give another file.")
    clip = dict(clip=video.identity, device=encoder.device.type, layer=layer)
    run = encoder.identity | clip | vars(plan)  # files of equal runs hold the same features
    return FeatureFile(out, run, described, shape, encoder.at_once(plan) * plan.steps)


@dataclass
class FeatureList:
    """Features that are collected in memory. described: the fields of `Features` that are known."""

    described: dict
    values: list = field(default_factory=list)
    cuts: list = field(default_factory=list)
    steps = 0  # that already exist

    def append(self, values: torch.Tensor, cuts: list) -> None:
        """The next steps, and the file numbers of pairs of frames with a cut between."""
        self.values.append(values)
        self.cuts += cuts

    def finish(self, frames: torch.Tensor, times: torch.Tensor) -> Features:
        """The `Features`; frames and times as there."""
        cuts = tuple(self.cuts)
        return Features(torch.cat(self.values), frames, times=times, cuts=cuts, **self.described)

    def close(self) -> None:
        """Nothing is held."""
