"""Cuts: a tubelet that spans two scenes is meaningless."""

import numpy as np


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
