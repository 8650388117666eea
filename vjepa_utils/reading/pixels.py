"""Frames to batches of pixels of the size that is encoded, read while others are encoded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vjepa_utils.reading.cuts import cuts_between

if TYPE_CHECKING:
    from vjepa_utils.plan import Plan
    from vjepa_utils.video import Video

# Even. Decoded frames of the clip's own size are held no longer than until they are resized.
FRAMES_AT_ONCE = 4


def resized(frame: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """uint8 (H, W, 3) to float32 (3, height, width), 0 to 255: bilinear and antialiased, skipped
    where the size is right.
    """
    out = torch.empty(3, *size)
    for channel, plane in enumerate(out):  # in float32 a large frame is large: a third at a time
        x = torch.tensor(frame[..., channel], dtype=torch.float32)
        if x.shape != plane.shape:
            (x,) = F.interpolate(x[None, None], size, mode="bilinear", antialias=True)[0]
        plane.copy_(x)
    return out


def batches(video: Video, plan: Plan, contexts: int, pinned=False) -> Iterator[tuple]:
    """Pixels of so many contexts at a time, 0 to 255, (n, 3, height, width), and the file numbers
    of the pairs of frames with a cut between. pinned: from there a copy to a GPU does not wait.
    """
    count = min(contexts * plan.hop + plan.overlap, len(video))
    at_once = math.gcd(contexts * plan.hop, plan.overlap, FRAMES_AT_ONCE)
    at_once = FRAMES_AT_ONCE if count == len(video) else at_once
    pixels = torch.empty(count, 3, *plan.size, pin_memory=pinned)
    left, carried, filled, cuts = len(video), 0, 0, []
    for piece in video.pieces(at_once):
        for slot, frame in zip(pixels[filled:], piece.frames, strict=False):
            slot.copy_(resized(frame, plan.size))
        if plan.context > 1:
            pairs = np.arange(len(piece) // 2 * 2).reshape(-1, 2)
            cuts += cuts_between(piece.frames, pairs, piece.indices)
        left, filled = left - len(piece), filled + len(piece)
        if filled == len(pixels):
            # what the next context shares; `pixels` may be normalised in place from here on
            shared = pixels[filled - plan.overlap :].clone()
            yield pixels, cuts
            carried = plan.overlap
            pixels = torch.empty(min(count, carried + left), 3, *plan.size, pin_memory=pinned)
            pixels[:carried] = shared
            filled, cuts = carried, []
    if filled > carried and left:  # the file is damaged: the clip ends before
        yield pixels[:filled], cuts


def read_ahead(items: Iterator) -> Iterator:
    """The items of a generator, each prepared by another thread while the last one is used."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, items, None)
        while (item := following.result()) is not None:
            following = reader.submit(next, items, None)
            yield item
