"""Frames to batches of pixels of the size that is encoded, read ahead; and where cuts are."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F

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


def batches(video, plan, contexts: int, pinned=False) -> Iterator[tuple]:
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


def cuts_between(frames: np.ndarray, pairs: np.ndarray, numbers: np.ndarray) -> list[tuple]:
    """Which pairs of frames seem to show two scenes, [(number, number), …].

    Two frames of one scene share their colours and their layout, even when much moves. The distance
    is half the L1 distance of their colour histograms plus 1 - the correlation of their brightness;
    known cuts reach 1.15 and more, other neighbouring frames stay below 0.6.

    Args:
        frames: (T, H, W, 3) uint8.
        pairs: (n, 2) positions in `frames`.
        numbers: (T,) frame numbers.
    """
    row, column = (max(1, side // 96) for side in frames.shape[1:3])
    small = frames[:, ::row, ::column].astype(int)  # about 96 × 96
    codes = (small // 32 @ [64, 8, 1]).reshape(len(small), -1)
    colours = np.stack([np.bincount(code, minlength=512) / code.size for code in codes])
    grey = small.mean(-1)
    edges = [np.arange(0, side, 4) for side in grey.shape[1:]]
    # blocks of 4 × 4
    grey = np.add.reduceat(np.add.reduceat(grey, edges[0], 1), edges[1], 2).reshape(len(small), -1)
    grey = (grey - grey.mean(1, keepdims=True)) / 16
    spread = np.linalg.norm(grey, axis=1)
    noise = grey.shape[1]  # of one grey level: flat frames count as similar
    first, second = pairs.T
    shared = (grey[first] * grey[second]).sum(1) + noise
    correlation = shared / (spread[first] * spread[second] + noise)
    distance = np.abs(colours[first] - colours[second]).sum(1) / 2 + 1 - correlation
    cut = pairs[(distance > 0.95) & (first != second)]
    return list(map(tuple, numbers[cut].tolist()))
