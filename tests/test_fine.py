"""Finer maps, layers of one pass and windows that overlap: what they hold and where it lies."""

import numpy as np
import pytest
import torch

import vjepa_utils as vj
from tests.conftest import write_video
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.model.devices import BATCH_TOKENS
from vjepa_utils.model.vjepa2 import encode_tokens

RANDOM = np.random.default_rng(0)
FRAMES = RANDOM.integers(0, 256, (4, 48, 80, 3), np.uint8)


class PatchMeans(Encoder):
    """An encoder of known answers: the tokens are the mean colours of their patches."""

    def __init__(self, tiny):
        super().__init__(tiny.model, "patch means", torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
        self.channels = 3

    def _tokens(self, pixels, shift=(0, 0), layers=(None,)):
        steps = pixels.unflatten(1, (-1, 2)).mean(2)  # (groups, steps, 3, height, width)
        means = torch.nn.functional.avg_pool2d(steps.flatten(0, 1), 16)
        return [means.unflatten(0, steps.shape[:2]).permute(0, 1, 3, 4, 2).flatten(1, 3)]


# Stride


def test_a_stride_of_the_patch_changes_no_bit(tiny):
    usual = tiny.encode(FRAMES, size=48)
    same = tiny.encode(FRAMES, size=48, stride=16)
    assert torch.equal(usual.values, same.values) and usual.stride == same.stride == 16


@pytest.mark.parametrize("stride", [8, 4])
def test_the_fine_grid_holds_the_usual_one_where_it_lies(tiny, stride):
    usual, fine = (tiny.encode(FRAMES, size=48, stride=s) for s in (None, stride))
    factor = 16 // stride
    assert fine.grid == (2, 3 * factor, 5 * factor) and fine.stride == stride
    assert torch.equal(fine.values[:, ::factor, ::factor], usual.values)
    for row in range(3):
        for column in range(5):
            point = usual.centre_of(row, column)
            assert fine.token_at(point) == (row * factor, column * factor)
            assert fine.centre_of(row * factor, column * factor) == pytest.approx(point)


@pytest.mark.parametrize("stride", [8, 4, 2])
def test_a_picture_periodic_in_the_stride_gives_a_constant_map(tiny, stride):
    tile = RANDOM.integers(0, 256, (1, stride, stride, 3), np.uint8)
    frames = np.tile(tile, (2, 48 // stride, 80 // stride, 1))
    values = tiny.encode(frames, size=48, stride=stride).values
    assert (values - values[:, :1, :1]).abs().max() < 1e-4 * values.abs().max()


def test_an_impulse_lies_where_it_should(tiny):
    """A bright square of 8 pixels raises the tokens whose patch holds it, and its own most."""
    frames = np.zeros((2, 64, 96, 3), np.uint8)
    frames[:, 24:32, 56:64] = 255  # its middle is (60, 28)
    fine = PatchMeans(tiny).encode(frames, size=64, stride=8)
    bright = fine.values[0, ..., 0]
    bright = bright - bright.min()
    rows, columns = (bright > 0.9 * bright.max()).nonzero().T
    assert set(rows.tolist()) == {2, 3} and set(columns.tolist()) == {6, 7}
    centres = np.array([fine.centre_of(r, c) for r, c in zip(rows, columns, strict=True)])
    assert centres.mean(0) == pytest.approx((60, 28))
    drawn = fine.aligned(bright[..., None].numpy())[..., 0]  # (16, 24) cells of 4 pixels
    lit = np.argwhere(drawn > 0.9 * drawn.max())
    assert drawn.shape == (16, 24) and (lit.mean(0) + 0.5) * 4 == pytest.approx([28, 60])


def test_a_picture_of_a_fine_map_has_its_colours_where_they_lie(tiny):
    """The strip's colours, read back at the centres of the tokens."""
    features = tiny.encode(FRAMES, size=48, stride=8)
    colours = vj.PCAColours().fit(features)
    figure = vj.figures.pca_strip(FRAMES, features, colours)
    drawn = [axis.images[0] for axis in figure.axes if axis.images][2]  # of step 0
    left, right, bottom, top = drawn.get_extent()
    picture = np.asarray(drawn.get_array())
    for row, column in ((0, 0), (2, 5), (5, 9), (3, 0)):
        x, y = features.centre_of(row, column)
        across = int((x - 0.5 - left) / (right - left) * picture.shape[1] - 1e-3)
        down = int((y - 0.5 - top) / (bottom - top) * picture.shape[0] - 1e-3)
        assert picture[down, across] == pytest.approx(colours.colours(features)[0, row, column])


def test_points_are_tracked_on_a_fine_map_where_they_lie():
    """Tokens of known places: a bright one in each frame, at cell (2, 3) and then (4, 7)."""
    values = torch.zeros(2, 6, 10, 2) + torch.tensor([1.0, 0])
    values[0, 2, 3] = values[1, 4, 7] = torch.tensor([0.0, 1])
    frames = torch.tensor([[0, 0], [1, 1]])
    features = Features(values, frames, 16, (48, 80), (48, 80), "planted", stride=8)
    query = features.centre_of(2, 3)
    tracks = vj.track(np.zeros((2, 48, 80, 3), np.uint8), [(0, *query)], features)
    assert tracks.xy[0, 1] == pytest.approx(features.centre_of(4, 7), abs=0.1)


def test_each_shift_has_the_mean_of_the_usual_tokens(tiny):
    values = tiny.encode(FRAMES, size=48, stride=8).values.view(2, 3, 2, 5, 2, -1)
    means = values.mean((1, 3))  # (steps, 2, 2, channels)
    assert (means - means[:, :1, :1]).abs().max() < 1e-5


def test_a_shift_has_positions_that_are_parts_of_a_patch(tiny):
    positions = tiny.model.positions((1, 3, 5), None, (0.5, 0.5))
    assert positions[0].tolist() == [0, 0.5, 0.5] and positions[-1].tolist() == [0, 2.5, 4.5]
    fine = tiny.encode(FRAMES[:2], size=48, stride=8).values[:, 1::2, 1::2].flatten(0, 2)
    # the last eight pixels of each row and column are repeated where a shift needs more
    padded = np.concatenate([FRAMES[:2], FRAMES[:2, -8:]], 1)
    padded = np.concatenate([padded, padded[:, :, -8:]], 2)[:, 8:, 8:]
    with torch.no_grad():
        x = tiny.pixels(padded, (48, 80))[None]
        alone = encode_tokens(tiny.model, x, positions=positions)[0]
    difference = fine - alone
    assert (difference - difference[0]).abs().max() < 1e-5  # but for the common offset


def test_cover_of_a_fine_grid(tiny):
    mask = np.zeros((48, 80), bool)
    mask[16:32, 40:48] = True  # half of patch (1, 2), 32 to 48
    fine = tiny.encode(FRAMES, size=48, stride=8)
    cover = fine.cover(mask)
    assert cover.shape == (6, 10) and cover[2, 4] == 0.5 and cover[2, 5] == 0.5
    assert cover[2, 3] == 0 and cover[2, 6] == 0 and cover[1, 5] == 0.25


def test_a_fine_file_is_what_memory_holds(tiny, tmp_path):
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    kept = tiny.encode(path, size=48, stride=8)
    filed = tiny.encode(path, size=48, stride=8, out=tmp_path / "fine.safetensors")
    assert torch.equal(kept.values, filed.values) and filed.stride == 8
    kept.save(tmp_path / "saved.safetensors")
    assert Features.load(tmp_path / "saved.safetensors").stride == 8


@pytest.mark.parametrize("stride", [0, 3, 32, 8.0, "8"])
def test_a_stride_that_divides_no_patch(tiny, stride):
    with pytest.raises(ValueError, match="stride must be a divisor of the patch, 16, not"):
        tiny.encode(FRAMES, stride=stride)


# Layers of one pass


@pytest.mark.parametrize("context", ["pair", "clip", "frame"])
def test_layers_of_one_pass_are_those_of_separate_passes(tiny, context):
    layers = tiny.encode(FRAMES, context, 48, layers="all")
    assert list(layers) == list(range(1, tiny.depth + 1))
    for k, features in layers.items():
        assert torch.equal(features.values, tiny.encode(FRAMES, context, 48, layer=k).values)
    some = tiny.encode(FRAMES, context, 48, layers=[None, 2])
    assert list(some) == [None, 2] and torch.equal(some[2].values, layers[2].values)
    assert torch.equal(some[None].values, tiny.encode(FRAMES, context, 48).values)


@pytest.mark.parametrize(
    "arguments",
    [dict(layers=[]), dict(layers=[1, 1]), dict(layers=[99]), dict(layers="some")]
    + [dict(layers=[1], layer=2), dict(layers=[1], out="x.safetensors")],
)
def test_layers_that_cannot_be(tiny, arguments):
    with pytest.raises(ValueError, match="layer"):
        tiny.encode(FRAMES, size=48, **arguments)


# Windows


@pytest.mark.parametrize("frames", [8, 9, 13, 16, 3])
@pytest.mark.parametrize(("context", "overlap"), [(4, 2), (8, 2), (8, 6), (6, 4)])
@pytest.mark.parametrize("batch", [1, 2048])
def test_windows_are_averaged_with_weights_that_fall(
    tiny, monkeypatch, frames, context, overlap, batch
):
    monkeypatch.setitem(BATCH_TOKENS, "cpu", batch)
    clip = RANDOM.integers(0, 256, (frames, 32, 48, 3), np.uint8)
    found = tiny.encode(clip, context, 32, overlap=overlap)
    steps = -(-frames // 2)
    total, weights = torch.zeros(steps, 2, 3, 96), torch.zeros(steps, 1, 1, 1)
    for start in range(0, max(frames - overlap, 1), context - overlap):
        values = tiny.encode(clip[start : start + context], "clip", 32).values
        for i, value in enumerate(values):
            weight = min(i + 1, len(values) - i)
            total[start // 2 + i] += weight * value
            weights[start // 2 + i] += weight
    assert (found.values - total / weights).abs().max() < 1e-4
    assert found.frames.tolist() == tiny.encode(clip, size=32).frames.tolist()


def test_a_model_that_ignores_its_context_gives_the_plain_result(tiny):
    clip = RANDOM.integers(0, 256, (14, 32, 48, 3), np.uint8)
    model = PatchMeans(tiny)
    plain = model.encode(clip, size=32).values
    assert (model.encode(clip, 6, 32, overlap=4).values - plain).abs().max() < 1e-6


def test_a_stopped_run_of_windows_goes_on_with_the_same_bits(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 1)
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    path = write_video(tmp_path / "clip.mp4", RANDOM.integers(0, 256, (26, 32, 48, 3), np.uint8))
    kept, out = tiny.encode(path, 8, 32, overlap=6), tmp_path / "film.safetensors"
    tokens, calls = Encoder._tokens, []

    def stopped(self, *given, **named):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return tokens(self, *given, **named)

    monkeypatch.setattr(Encoder, "_tokens", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny.encode(path, 8, 32, overlap=6, out=out)
    begun = len(calls)
    again = tiny.encode(path, 8, 32, overlap=6, out=out)
    assert torch.equal(again.values, kept.values) and again.grid == (13, 2, 3)
    assert len(calls) - begun < 10  # of the ten windows some were there


@pytest.mark.parametrize(
    "arguments",
    [dict(overlap=2), dict(context=4, overlap=4), dict(context=4, overlap="2")]
    + [dict(context=8, overlap=3), dict(context=8, overlap=-2), dict(context="frame", overlap=2)],
)
def test_an_overlap_that_cannot_be(tiny, arguments):
    with pytest.raises(ValueError, match="overlap must be"):
        tiny.encode(FRAMES, size=48, **arguments)


# Stills


@pytest.mark.parametrize("repeat", [2, 6, 16])
def test_a_frame_that_is_fed_often_is_the_mean_of_its_clip(tiny, repeat):
    found = tiny.encode(FRAMES, "frame", 48, repeat=repeat)
    assert found.grid == (4, 3, 5) and found.frames.tolist() == [[i, i] for i in range(4)]
    for values, frame in zip(found.values, FRAMES, strict=True):
        still = np.broadcast_to(frame, (repeat, *frame.shape))
        clip = tiny.encode(still, "clip", 48).values
        assert (values - clip.mean(0)).abs().max() < 1e-5
    assert repeat == 2 or (found.values - tiny.encode(FRAMES, "frame", 48).values).abs().max() > 0.1


@pytest.mark.parametrize(
    "arguments", [dict(repeat=3), dict(repeat=0), dict(context=None, repeat=4)]
)
def test_a_repeat_that_cannot_be(tiny, arguments):
    with pytest.raises(ValueError, match="repeat must be an even number"):
        tiny.encode(FRAMES, **({"context": "frame"} | arguments))


def test_features_that_are_not_finite_are_refused(tiny):
    import copy

    broken = Encoder(copy.deepcopy(tiny.model), "broken", tiny.mean, tiny.std)
    next(broken.model.encoder.layer.parameters()).data.fill_(torch.nan)
    hidden = np.ones(broken.grid(FRAMES, 48, "clip"), bool)
    hidden[:, :1] = False
    for call in (
        lambda: broken.encode(FRAMES, size=48),
        lambda: broken.recover(FRAMES, hidden, size=48),
        lambda: broken.surprise(FRAMES, context=2, size=48),
    ):
        with pytest.raises(vj.UserError, match="not finite: its weights hold NaN"):
            call()


def test_features_that_memory_cannot_hold_are_refused(tiny, monkeypatch):
    monkeypatch.setattr("vjepa_utils.model.devices.free_memory", lambda device: 3_000_000)
    clip = np.zeros((200, 48, 80, 3), np.uint8)
    assert tiny.encode(clip, size=48).grid == (100, 3, 5)
    with pytest.raises(MemoryError, match=r"100 steps of 12×20 tokens need about .* out="):
        tiny.encode(clip, size=48, stride=4)
