"""Headings say where a call departs from what a released checkpoint was trained on."""

from dataclasses import replace

import numpy as np
import pytest

import vjepa_utils as vj
from tests.conftest import write_video
from vjepa_utils.weights.regime import departures

LARGE = "facebook/vjepa2-vitl-fpc64-256"
FRAMES = np.random.default_rng(0).integers(0, 256, (16, 48, 64, 3), np.uint8)
FUTURE, PAIRS = "future hidden: not in training", "pairs: trained on 16 frames"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (dict(frames=16, rate=4), []),
        (dict(frames=8, rate=2), []),
        (dict(frames=2, rate=8), [PAIRS]),
        (dict(frames=6), ["6 frames at once: trained on 16 frames"]),
        (dict(rate=8.1), ["8.1 frames a second, trained on 4"]),
        (dict(rate=1.9), ["1.9 frames a second, trained on 4"]),
        (dict(frames=64, future=True), [FUTURE]),
    ],
)
def test_what_departs(call, words):
    for name in (LARGE, "/weights/vjepa2-vitg-fpc64-384", "vjepa2_1_vitg_384"):
        assert departures(name, **call) == words
    for name in ("vjepa2-demo", "dino-demo", "facebook/dinov2-base", "my-own"):
        assert departures(name, **call) == []


def test_features_know_how_many_frames_were_encoded_jointly(tiny, tmp_path):
    contexts = {None: 2, "pair": 2, 6: 6, "clip": 16, "frame": 2}
    for context, frames in contexts.items():
        assert tiny.encode(FRAMES, context, 48).context == frames
    assert tiny.encode(FRAMES[:4], "frame", 48, repeat=16).context == 16
    assert tiny.hold(FRAMES[:8], 48).whole.context == 8
    features = tiny.encode(FRAMES, 6, 48, out=tmp_path / "out.safetensors")
    assert vj.Features.load(tmp_path / "out.safetensors").context == features.context == 6


def said(figure):
    """What a heading says of training."""
    return [part for part in figure.get_suptitle().split(" · ") if "train" in part]


@pytest.mark.filterwarnings("ignore:.*mask tokens", "ignore:.*tokens to learn pixels")
def test_headings_say_it_once_of_released_checkpoints_alone(tiny, tmp_path):
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    fast, slow = vj.read_video(path), vj.read_video(path, every=5)
    for video, rate in ((fast, ["30 frames a second, trained on 4"]), (slow, [])):
        features = tiny.encode(video, size=48)
        colours = vj.PCAColours().fit(features)
        assert said(vj.figures.pca_strip(video, features, colours)) == []
        features = replace(features, encoder=LARGE)
        assert said(vj.figures.pca_strip(video, features, colours)) == [PAIRS, *rate]
    held, encoder = tiny.hold(slow, 48), LARGE
    held.whole = replace(held.whole, encoder=encoder)
    future, block = (held.recover(mask(held.grid)) for mask in (vj.masks.future, vj.masks.block))
    few = "4 frames at once: trained on 16 frames"
    strip = vj.recovery.recovery_strip
    assert said(strip(slow, {"block": block, "future": future})) == [FUTURE, few]
    assert said(strip(slow, block)) == [few]
    curves = [{0.6: block, "future": future}]
    assert said(vj.recovery.recovery_curves(curves, "clips")) == [FUTURE, few]
    assert FUTURE in vj.decoding.recovered(slow, future).heading
    assert FUTURE not in vj.decoding.recovered(slow, block).heading
    surprise = tiny.surprise(slow[[0, 1, 2, 3] * 3], 8, size=48)
    assert said(vj.surprise.surprise_strip(FRAMES, surprise)) == []
    surprise = replace(surprise, encoder=LARGE)
    assert said(vj.surprise.surprise_strip(FRAMES, surprise)) == [FUTURE]
