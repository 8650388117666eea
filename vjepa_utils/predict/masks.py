"""Masks: which tokens of a (steps, rows, columns) grid are hidden.

Each function returns a bool array (steps, rows, columns), True where hidden, that leaves something
visible; `Encoder.recover` takes it, and `Encoder.grid(video, size, "clip")` gives the grid. `share`
is the part of the tokens to hide, between 0 and 1; `seed` a whole number or a numpy Generator, and
the same seed hides the same tokens.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vjepa_utils.checks import UserError

if TYPE_CHECKING:  # commands name the masks before torch is loaded
    import torch

    from vjepa_utils.video import Grid, Seed

# number of blocks, and the share of the picture that each hides
MULTIBLOCK = {"short": (8, 0.15), "long": (2, 0.7)}


def block(grid: Grid, share: float = 0.6) -> np.ndarray:
    """A centred block of the picture's aspect, through all steps. Its share is off by at most half
    a column of the grid; by a whole one where else nothing would be visible.
    """
    return _rectangle(grid, share, moving=False)


def multiblock(grid: Grid, kind: str = "short", seed: Seed = 0) -> np.ndarray:
    """The masks of pretraining: 8 "short" or 2 "long" range blocks at random places, in all steps.

    A block hides 15 % of the picture if short and 70 % if long, with a ratio of height to width
    from 0.75 to 1.5 (Bardes et al. 2024; facebookresearch/vjepa2). Blocks overlap: on 16×16 patches
    they hide 0.62 ± 0.08 and 0.82 ± 0.08 together. If they hide all, one random place stays
    visible.
    """
    if kind not in MULTIBLOCK:
        raise UserError(f'kind must be "short" or "long", not {kind!r}.')
    blocks, share = MULTIBLOCK[kind]
    steps, rows, columns = grid
    generator, hidden = np.random.default_rng(seed), np.zeros((rows, columns), bool)
    for aspect in generator.uniform(0.75, 1.5, blocks):
        height = min(rows, max(1, round((share * rows * columns * aspect) ** 0.5)))
        width = min(columns, max(1, round(share * rows * columns / height)))
        top, left = generator.integers(rows - height + 1), generator.integers(columns - width + 1)
        hidden[top : top + height, left : left + width] = True
    if hidden.all():
        hidden[generator.integers(rows), generator.integers(columns)] = False
    return hidden[None].repeat(steps, 0)


def tubes(grid: Grid, share: float = 0.6, seed: Seed = 0) -> np.ndarray:
    """Random places (row, column), in all steps."""
    return tokens(grid[1:], share, seed)[None].repeat(grid[0], 0)


def tokens(grid: Grid, share: float = 0.6, seed: Seed = 0) -> np.ndarray:
    """Random tokens, drawn independently."""
    _check(share)
    hidden = np.zeros(np.prod(grid), bool)
    count = min(hidden.size - 1, max(1, round(share * hidden.size)))
    hidden[np.random.default_rng(seed).choice(hidden.size, count, replace=False)] = True
    return hidden.reshape(grid)


def future(grid: Grid, after: int | None = None) -> np.ndarray:
    """Every step after step `after`, counted from 0; None for the middle one."""
    if grid[0] < 2:
        raise UserError(
            "future needs at least two steps, one to see and one to hide: take four frames or more."
        )
    after = (grid[0] - 1) // 2 if after is None else after
    if not 0 <= after < grid[0] - 1:
        raise UserError(
            f"after must be a step from 0 to {grid[0] - 2}, so that one is visible and one "
            f"hidden, not {after}."
        )
    hidden = np.zeros(grid, bool)
    hidden[after + 1 :] = True
    return hidden


def window(grid: Grid, share: float = 0.25) -> np.ndarray:
    """A window of the picture's aspect that moves from its left edge in the first step to its right
    edge in the last.
    """
    return _rectangle(grid, share, moving=True)


def region(grid: Grid, mask: np.ndarray | torch.Tensor) -> np.ndarray:
    """Every patch that an object touches in a step.

    mask: (frames, H, W) bool or 0/1, where the object is in each frame that is encoded, at any
        size; a step covers two frames, and an odd last frame is a step by itself.
    """
    import torch  # takes seconds, and only this mask needs it

    mask = torch.as_tensor(mask).float()
    if mask.ndim != 3 or -(-len(mask) // 2) != grid[0]:
        raise UserError(
            f"mask must be (frames, height, width) with two frames for each of {grid[0]} steps, "
            f"not {tuple(mask.shape)}."
        )
    # (steps, H, W)
    mask = torch.cat([mask, mask[-1:]])[: 2 * grid[0]].unflatten(0, (-1, 2)).amax(1)
    return torch.nn.functional.adaptive_max_pool2d(mask.unsqueeze(1), grid[1:])[:, 0].numpy() > 0


DRAWN = {  # by the names of commands and of the explorer
    "block": block,
    "multiblock": multiblock,
    "multiblock-long": partial(multiblock, kind="long"),
    "tubes": tubes,
    "tokens": tokens,
    "window": window,
    "future": future,
}
NAMES = tuple(DRAWN)


def named(
    name: str, grid: Grid, share: float | None = None, after: int | None = None, seed: Seed = 0
) -> np.ndarray:
    """A mask by one of `NAMES`, given those of the options that it has; None for its default."""
    if name not in NAMES:
        raise UserError(f"There is no mask {name!r}: choose among {', '.join(NAMES)}.")
    takes = inspect.signature(DRAWN[name]).parameters
    options = {"share": share, "after": after, "seed": seed}
    options = {k: v for k, v in options.items() if k in takes and v is not None}
    return DRAWN[name](grid, **options)


def pixels(hidden: np.ndarray, height: int, width: int) -> np.ndarray:
    """Patches as the pixels that they cover: (steps, rows, columns, …), such as what is hidden, to
    (steps, height, width, …).
    """
    rows = np.arange(height) * hidden.shape[1] // height
    columns = np.arange(width) * hidden.shape[2] // width
    return hidden[:, rows[:, None], columns]


def _rectangle(grid, share, moving):
    """A rectangle that hides about `share` of the picture and not all."""
    _check(share)
    steps, rows, columns = grid
    height = min(rows, max(1, round(rows * share**0.5)))
    width = min(columns, max(1, round(share * rows * columns / height)))
    width = max(1, width - 1) if height * width == rows * columns else width
    top, room, hidden = (rows - height) // 2, columns - width, np.zeros(grid, bool)
    lefts = np.linspace(0, room, steps).round().astype(int) if moving else steps * [room // 2]
    for step, left in zip(hidden, lefts, strict=True):
        step[top : top + height, left : left + width] = True
    return hidden


def _check(share):
    if not 0 < share < 1:
        raise UserError(f"share must lie between 0 and 1, not {share}.")
