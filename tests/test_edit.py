"""Editing the context: nothing leaks, strength 0 changes no bit, controls are equally long."""

import numpy as np
import pytest
import torch

import vjepa_utils as vj
from vjepa_utils.recovery import edit, edit_strip

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
WHERE = np.zeros((3, 3, 4), bool)
WHERE[0, 1, 1:3] = True
SOURCE = np.zeros((3, 3, 4), bool)
SOURCE[1, 2, :2] = True
DIRECTION = torch.randn(96, generator=torch.Generator().manual_seed(1))

pytestmark = pytest.mark.filterwarnings("ignore:.*mask tokens")


@pytest.fixture(scope="module")
def held(tiny):
    return tiny.hold(FRAMES, 48)


@pytest.mark.parametrize("change", [DIRECTION, SOURCE, "shuffle"])
def test_an_edit_of_strength_zero_changes_no_bit(tiny, held, change):
    found = edit(tiny, held, WHERE, change, strength=0, controls=2)
    plain = tiny.recover(FRAMES, vj.masks.future((3, 3, 4), 1), size=48)
    assert torch.equal(found.edited.predicted, plain.predicted)
    assert torch.equal(found.plain.predicted, plain.predicted)
    assert torch.equal(found.controls[0], plain.predicted) and abs(found.change).max() < 1e-6
    assert edit(tiny, held, WHERE, change, controls=2).change.max() > 1e-4


def test_tokens_of_another_place_are_put_there(tiny, held):
    """The context is the plain one but for the two tokens, which are those of the source."""
    found, plain = edit(tiny, held, WHERE, SOURCE, controls=1), held.recover(~_visible())
    on_grid = lambda recovery: recovery.filled.values
    assert torch.allclose(on_grid(found.edited)[WHERE], on_grid(plain)[SOURCE], atol=1e-5)
    others = _visible() & ~WHERE
    assert torch.equal(on_grid(found.edited)[others], on_grid(plain)[others])


def test_tokens_of_another_clip_are_put_there(tiny, held):
    hidden, other = ~_visible(), tiny.hold(255 - FRAMES, 48)
    tokens = other.context(hidden)[torch.from_numpy(WHERE[~hidden])]
    found = edit(tiny, held, WHERE, tokens, hidden, controls=1)
    context = held.context(hidden)
    context[torch.from_numpy(WHERE[~hidden])] = tokens
    expected = held.predict(context, hidden).predicted
    assert torch.allclose(found.edited.predicted, expected, atol=1e-5)


def test_shuffled_tokens_are_the_same_tokens_and_none_stays(tiny, held):
    where = _visible()
    found = edit(tiny, held, where, "shuffle", controls=1)
    before, after = found.plain.context, found.edited.context
    assert torch.allclose(before.sum(0), after.sum(0), atol=1e-4)
    assert (before - after).abs().amax(1).min() > 1e-3


def test_a_push_and_its_controls_are_equally_long(tiny, held):
    raw = held.context(~_visible())
    spread = (raw - raw.mean(0)).square().sum(1).mean().sqrt()
    contexts = []
    predict = type(held).predict

    class Noting(type(held)):
        def __init__(self, of):
            self.__dict__ = of.__dict__

        def predict(self, context, hidden, mask_token=None):
            contexts.append(context)
            return predict(self, context, hidden, mask_token)

    edit(tiny, Noting(held), WHERE, DIRECTION, strength=2, controls=3)
    moves = [(context - raw).norm(dim=1) for context in contexts]
    moved = [float(move.max()) for move in moves if move.any()]
    assert moved == pytest.approx([2 * float(spread)] * 4, rel=1e-4)
    changed = [np.flatnonzero(move > 0).tolist() for move in moves if move.any()]
    assert changed == [[5, 6]] * 4


def test_hidden_pixels_do_not_reach_an_edit(tiny):
    repainted = FRAMES.copy()
    repainted[4:] = 200
    a, b = (edit(tiny, clip, WHERE, DIRECTION, controls=1, size=48) for clip in (FRAMES, repainted))
    assert torch.equal(a.edited.predicted, b.edited.predicted)


def test_a_probe_reads_what_was_added(tiny, held):
    found = edit(tiny, held, WHERE, DIRECTION, controls=4)
    read = found.read(lambda tokens: tokens @ DIRECTION)
    assert read["plain"] == pytest.approx(float((found.plain.predicted @ DIRECTION).mean()))
    assert read["edited"] == pytest.approx(float((found.edited.predicted @ DIRECTION).mean()))
    assert read["controls"].shape == (4,) and read["controls"].std() > 0


def test_the_strip_shows_the_change_where_it_was_predicted(tiny, held):
    found = edit(tiny, held, WHERE, DIRECTION, strength=50, controls=2)
    probe, film = (lambda tokens: tokens @ DIRECTION), FRAMES[:, ::4, ::4]
    figure = edit_strip(FRAMES, found, probe=probe, decoded={"pixels": film})
    text, read = figure.get_suptitle().replace("\n", " "), found.read(probe)
    assert f"moved by {found.change.mean():.3g}" in text
    assert f"reads {read['plain']:.3g} without and {read['edited']:.3g} with the change" in text
    raw = held.context(~_visible())
    spread = (raw - raw.mean(0)).square().sum(1).mean().sqrt()
    pushed = raw[[5, 6]] + 50 * spread * DIRECTION / DIRECTION.norm()
    before, after = raw.norm(dim=1), pushed.norm(dim=1)
    assert f"{after.min():.3g} to {after.max():.3g}, leave the range" in text
    assert f"of the clip's, {before.min():.3g} to {before.max():.3g}" in text
    assert (
        "leave the range" not in edit_strip(FRAMES, edit(tiny, held, WHERE, SOURCE)).get_suptitle()
    )
    images = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    maps = [image for image in images if image.shape[:2] == (3, 4)]
    assert np.allclose(maps[2], found.change.reshape(3, 4))
    assert np.isnan(np.ma.filled(maps[0].astype(float), np.nan)).all()
    shown = [image for image in images if image.shape[:2] == (12, 16)]
    assert [np.array_equal(a, b) for a, b in zip(shown, film[::2], strict=True)] == [True] * 3


def _visible():
    return ~vj.masks.future((3, 3, 4), 1)


@pytest.mark.parametrize(
    ("where", "change", "sentence"),
    [
        (WHERE[0], DIRECTION, "where must be bool of the shape"),
        (WHERE & False, DIRECTION, "at least one"),
        (~WHERE, DIRECTION, "choose visible tokens alone"),
        (WHERE, DIRECTION[:5], "a direction of 96 channels"),
        (WHERE, DIRECTION * 0, "not zero"),
        (WHERE, WHERE | SOURCE, "change chooses 4 tokens and where 2"),
        (WHERE, "swap", 'change must be a direction, a mask or "shuffle"'),
    ],
)
def test_bad_input(tiny, held, where, change, sentence):
    with pytest.raises(vj.UserError, match=sentence):
        edit(tiny, held, where, change)
