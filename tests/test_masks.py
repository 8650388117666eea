"""Masks hide what they claim to hide."""

import numpy as np
import pytest

from vjepa_utils.predict import masks

GRIDS = [(4, 16, 16), (8, 16, 28), (1, 28, 16), (3, 5, 9), (2, 4, 4), (2, 57, 32)]
RANDOM = [masks.tubes, masks.tokens, lambda grid, share, seed: masks.multiblock(grid, "long", seed)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("share", [0.05, 0.25, 0.6, 0.8, 0.95])
def test_shares_are_what_was_asked_for(grid, share):
    steps, rows, columns = grid
    column = (
        1 if share * rows * columns > rows * (columns - 0.5) else 0.5
    ) / columns  # the last column stays visible
    for hidden, off in (
        (masks.block(grid, share), column),
        (masks.window(grid, share), column),
        (masks.tubes(grid, share), 0.5 / rows / columns),
        (masks.tokens(grid, share), 0.5 / steps / rows / columns),
    ):
        assert hidden.shape == grid and hidden.dtype == bool and 0 < hidden.mean() < 1
        assert abs(hidden.mean() - share) <= off + 1e-12


def test_block_tubes_and_multiblock_hide_the_same_places_in_all_steps():
    for hidden in (
        masks.block((5, 8, 9)),
        masks.tubes((5, 8, 9)),
        *(masks.multiblock((5, 8, 9), kind) for kind in masks.MULTIBLOCK),
    ):
        assert (hidden == hidden[0]).all()
    assert not (masks.tokens((5, 8, 9)) == masks.tokens((5, 8, 9))[0]).all()


def test_the_block_is_centred():
    hidden = masks.block((1, 8, 12), 0.375)[0]  # 5 × 7 of 8 × 12: 0.365
    assert np.flatnonzero(hidden.any(1)).tolist() == [1, 2, 3, 4, 5] and np.flatnonzero(
        hidden.any(0)
    ).tolist() == list(range(2, 9))
    assert hidden.sum() == 35


@pytest.mark.parametrize(("kind", "share"), [("short", 0.62), ("long", 0.82)])
def test_multiblock_hides_what_pretraining_hid(kind, share):
    """facts of the reference code: 0.62 ± 0.08 and 0.82 ± 0.08."""
    generator = np.random.default_rng(0)
    shares = [masks.multiblock((2, 16, 16), kind, generator).mean() for _ in range(300)]
    assert np.mean(shares) == pytest.approx(share, abs=0.02) and np.std(shares) == pytest.approx(
        0.08, abs=0.03
    )


def test_multiblock_never_hides_everything():
    assert max(masks.multiblock((2, 2, 2), "long", seed).mean() for seed in range(200)) == 0.75


@pytest.mark.parametrize("draw", RANDOM)
def test_a_seed_or_generator_decides(draw):
    first, again, other = (draw((3, 8, 8), 0.5, seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    generator = np.random.default_rng(7)
    assert np.array_equal(first, draw((3, 8, 8), 0.5, generator)) and not np.array_equal(
        first, draw((3, 8, 8), 0.5, generator)
    )


def test_future_window_and_region_by_hand():
    assert masks.future((4, 2, 2), 1).all((1, 2)).tolist() == [False, False, True, True]
    moving = masks.window((3, 4, 8), 0.25)[:, 1]  # 2 × 4 patches from column 0 to column 4
    assert [np.flatnonzero(row).tolist() for row in moving] == [
        [0, 1, 2, 3],
        [2, 3, 4, 5],
        [4, 5, 6, 7],
    ]
    thing = np.zeros((3, 40, 60), np.uint8)  # patches of 10 × 10
    thing[0, 5, 5], thing[1, 19:21, 30], thing[2, 39, 59] = 1, 1, 1
    assert np.argwhere(masks.region((2, 4, 6), thing)).tolist() == [
        [0, 0, 0],
        [0, 1, 3],
        [0, 2, 3],
        [1, 3, 5],
    ]


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: masks.block((2, 4, 4), 1), "share must lie between 0 and 1, not 1"),
        (lambda: masks.tubes((2, 4, 4), 0), "share must lie between 0 and 1, not 0"),
        (lambda: masks.tokens((2, 4, 4), float("nan")), "share must lie between"),
        (lambda: masks.multiblock((2, 4, 4), "medium"), 'kind must be "short" or "long"'),
        (lambda: masks.future((2, 4, 4), 1), "after must be a step from 0 to 0"),
        (lambda: masks.region((2, 4, 4), np.zeros((8, 8, 8))), "two frames for each of 2 steps"),
    ],
)
def test_bad_input(draw, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw()


def test_masks_by_name_are_the_masks():
    grid = (4, 6, 8)
    for name, mask in {
        "block": masks.block(grid),
        "multiblock": masks.multiblock(grid, "short", 3),
        "multiblock-long": masks.multiblock(grid, "long", 3),
        "tubes": masks.tubes(grid, seed=3),
        "tokens": masks.tokens(grid, seed=3),
        "window": masks.window(grid),
        "future": masks.future(grid, 1),
    }.items():
        assert np.array_equal(masks.named(name, grid, seed=3), mask), name
    assert np.array_equal(masks.named("window", grid, share=0.5), masks.window(grid, 0.5))
    assert np.array_equal(masks.named("future", grid, after=2), masks.future(grid, 2))
    assert np.array_equal(masks.named("future", grid, share=0.3), masks.future(grid))  # has none
    with pytest.raises(ValueError, match="There is no mask 'blok': choose among block, multiblock"):
        masks.named("blok", grid)
