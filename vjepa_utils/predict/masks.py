"""Masks: which tokens of a (steps, rows, columns) grid are hidden.

Each function returns a bool array (steps, rows, columns), True where hidden, that leaves something
visible; `Encoder.recover` takes it, and `Encoder.grid(video, size, "clip")` gives the grid. `share`
is the part of the tokens to hide, between 0 and 1; `seed` a whole number or a numpy Generator, and
the same seed hides the same tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vjepa_utils.checks import UserError

if TYPE_CHECKING:  # commands name the masks before torch is loaded
    import torch

    from vjepa_utils.video import Grid, Seed

# number of blocks, and the share of the picture that each hides
MULTIBLOCK = {"short": (8, 0.15), "long": (2, 0.7)}
# what commands and the explorer call the masks
NAMES = "block", "multiblock", "multiblock-long", "tubes", "tokens", "window", "future"


def named(
    name: str, grid: Grid, share: float | None = None, after: int | None = None, seed: Seed = 0
) -> np.ndarray:
    """A mask by one of `NAMES`: "multiblock-long" is `multiblock` of the long kind.

    share: None for the mask's own; multiblock and future have none.  after: of future; None for the
    middle step.  seed: of random masks.
    """
    if name not in NAMES:
        raise UserError(f"There is no mask {name!r}: choose among {', '.join(NAMES)}.")
    if name.startswith("multiblock"):
        return multiblock(grid, "long" if name.endswith("long") else "short", seed)
    if name == "future":
        return future(grid, (grid[0] - 1) // 2 if after is None else after)
    how = {} if share is None else {"share": share}
    how |= {"seed": seed} if name in ("tubes", "tokens") else {}
    return {"block": block, "tubes": tubes, "tokens": tokens, "window": window}[name](grid, **how)


def block(grid: Grid, share: float = 0.6) -> np.ndarray:
    """A centred block of the picture's aspect, through all steps.

    `mask.mean()` is off by at most half a column of the grid; by a whole one where else nothing
    would be visible.
    """
    steps, rows, columns = grid
    height, width = _rectangle(rows, columns, share)
    return _through_all_steps(
        grid, _painted(rows, columns, (rows - height) // 2, (columns - width) // 2, height, width)
    )


def multiblock(grid: Grid, kind: str = "short", seed: Seed = 0) -> np.ndarray:
    """The masks of pretraining: 8 "short" or 2 "long" range blocks at random places, through all
    steps.

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
        hidden |= _painted(rows, columns, top, left, height, width)
    if hidden.all():
        hidden[generator.integers(rows), generator.integers(columns)] = False
    return _through_all_steps(grid, hidden)


def tubes(grid: Grid, share: float = 0.6, seed: Seed = 0) -> np.ndarray:
    """Random places (row, column), in all steps. `mask.mean()` is off by at most half a place."""
    return _through_all_steps(grid, _random(grid[1:], share, seed))


def tokens(grid: Grid, share: float = 0.6, seed: Seed = 0) -> np.ndarray:
    """Random tokens, drawn independently. `mask.mean()` is off by at most half a token."""
    return _random(grid, share, seed)


def future(grid: Grid, after: int) -> np.ndarray:
    """Every step after step `after`, counted from 0. `mask.mean()` is exactly the share of those
    steps.
    """
    if grid[0] < 2:
        raise UserError(
            "future needs at least two steps, one to see and one to hide: take four frames or more."
        )
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

    `mask.mean()` is off as for `block`.
    """
    steps, rows, columns = grid
    height, width = _rectangle(rows, columns, share)
    lefts = np.linspace(0, columns - width, steps).round().astype(int)
    return np.stack(
        [_painted(rows, columns, (rows - height) // 2, left, height, width) for left in lefts]
    )


def region(grid: Grid, mask: np.ndarray | torch.Tensor) -> np.ndarray:
    """Every patch that an object touches in a step.

    Args:
        mask: (frames, H, W) bool or 0/1, where the object is in each frame that is encoded, at any
            size; a step covers two frames, and an odd last frame is a step by itself.
    `mask.mean()` is larger than the object's share of the pixels by the patches that it covers in
    part.
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


def pixels(hidden: np.ndarray, height: int, width: int) -> np.ndarray:
    """Patches as the pixels that they cover: (steps, rows, columns, …), such as what is hidden, to
    (steps, height, width, …).
    """
    rows, columns = (
        np.arange(side) * count // side
        for side, count in zip((height, width), hidden.shape[1:3], strict=True)
    )
    return hidden[:, rows[:, None], columns]


def _rectangle(rows, columns, share):
    """Height and width in patches, in the picture's aspect, that hide about `share` of it and not
    all.
    """
    _check(share)
    height = min(rows, max(1, round(rows * share**0.5)))
    width = min(columns, max(1, round(share * rows * columns / height)))
    return (height, width) if height * width < rows * columns else (height, max(1, width - 1))


def _painted(rows, columns, top, left, height, width):
    hidden = np.zeros((rows, columns), bool)
    hidden[top : top + height, left : left + width] = True
    return hidden


def _through_all_steps(grid, hidden):
    return np.broadcast_to(hidden, grid).copy()


def _random(shape, share, seed):
    _check(share)
    hidden = np.zeros(np.prod(shape), bool)
    count = min(hidden.size - 1, max(1, round(share * hidden.size)))
    hidden[np.random.default_rng(seed).choice(hidden.size, count, replace=False)] = True
    return hidden.reshape(shape)


def _check(share):
    if not 0 < share < 1:
        raise UserError(f"share must lie between 0 and 1, not {share}.")
