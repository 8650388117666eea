"""Where features go while they are encoded: to memory, or to a file that allows resuming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.model.devices import check_fits
from vjepa_utils.plan import Plan
from vjepa_utils.video import File, Video

if TYPE_CHECKING:
    from vjepa_utils.encoder import Encoder
    from vjepa_utils.stream import FeatureFile


def open_sink(
    encoder: Encoder, video: Video, plan: Plan, layer: int | str | None, out: File | None
) -> FeatureList | FeatureFile:
    """What the features of a layer are appended to; arguments as for `Encoder.encode`.

    Raises:
        UserError: `out` names the clip, or belongs to another run.
        MemoryError: the features cannot be held, and there is no `out`.
    """
    shape = *plan.grid, encoder.width(layer)
    described = encoder.describe(video, plan, layer)
    if out is None:
        what = "Features of {} steps of {}×{} tokens".format(*shape)
        remedy = 'give out="film.safetensors", take fewer frames or a smaller size'
        check_fits(4 * math.prod(shape), torch.device("cpu"), what, lambda share: remedy)
        return FeatureList(described)
    from vjepa_utils.stream import FeatureFile  # not on the way from clips to features

    if video.path and Path(out).resolve() == video.path.resolve():
        raise UserError(f"out names the clip itself, {out}: give another file.")
    run = identity(encoder, video, plan, layer)
    return FeatureFile(out, run, described, shape, encoder.at_once(plan) * plan.steps)


def identity(encoder: Encoder, video: Video, plan: Plan, layer: int | str | None) -> dict:
    """Identifies a computation: files of equal runs hold the same features, up to rounding."""
    clip = dict(clip=video.identity, device=encoder.device.type, layer=layer)
    return encoder.identity | clip | vars(plan)


class FeatureList:
    """Features that are collected in memory. described: the fields of `Features` that are known."""

    steps = 0  # that already exist

    def __init__(self, described):
        self.described, self.values, self.cuts = described, [], []

    def note(self, cuts):
        """File numbers of pairs of frames with a cut between, in steps that `append` will bring."""
        self.cuts += cuts

    def append(self, values):
        """The next steps, (steps, rows, columns, channels)."""
        self.values.append(values)

    def finish(self, frames, times):
        """The `Features`; frames and times as there."""
        return Features(
            torch.cat(self.values), frames, **self.described, cuts=tuple(self.cuts), times=times
        )

    def close(self):
        """Nothing is held."""
