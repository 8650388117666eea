"""The measures of benchmarks/ and the ground truth of training, on cases worked by hand."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import vjepa_utils as vj
from benchmarks import compare_encoders
from benchmarks.baselines import PatchColours, random_weights
from demo.recipe.motion import flows
from demo.recipe.truth import matches
from demo.render.scenes import Layer, composite, pose, unseen_scenes
from tests.conftest import GOLDEN, write_video
from vjepa_utils.segmentation.propagation import agreement, propagate


def clip_of(values):
    """Features of 16×16 patches whose clip has one pixel for each patch."""
    steps, rows, columns, _ = values.shape
    frames = torch.arange(steps).repeat(2, 1).T
    return vj.Features(
        values.float(), frames, 16, (16 * rows, 16 * columns), (rows, columns), "by hand"
    )


def test_labels_follow_the_features():
    """Nine patches, all different, move one column to the right in each frame; the row's end comes
    in at its start.
    """
    eye = torch.eye(9).view(3, 3, 9)
    features = clip_of(torch.stack([eye.roll(step, 1) for step in range(4)]))
    mask = torch.zeros(3, 3)
    mask[1, 0] = 1
    soft = propagate(features, {0: torch.stack([1 - mask, mask], -1)})
    # Frame 1 finds its own patch with cosine 1 and four others with 0: softmax at 0.2 gives the
    # first e⁵ / (e⁵ + 4).
    assert soft[1, 1, 1, 1].item() == pytest.approx(math.exp(5) / (math.exp(5) + 4), rel=1e-5)
    assert soft[1, 1, 1].sum().item() == pytest.approx(1)
    truth = torch.stack([mask.roll(step, 1) for step in range(4)]).long()
    assert torch.equal(soft[..., 1].round(), truth.float())
    found = soft.argmax(-1).numpy()
    assert agreement(found, truth.numpy()) == {1: (1.0, 1.0)}
    # a truth that stays: in the two frames that count nothing overlaps
    still = truth[:1].expand(4, -1, -1)
    assert agreement(found, still.numpy())[1][0] == 0


def test_white_is_object_one_in_a_benchmark_too(tmp_path):
    """Masks of 0 and 255, the object in the same place throughout: all but its corners."""
    white = np.zeros((4, 32, 48), np.uint8)
    white[:, 16:, 16:32] = 255
    frames = np.where(white[..., None] > 0, np.uint8([200, 30, 30]), np.uint8(90))
    (tmp_path / "a" / "masks").mkdir(parents=True)
    write_video(tmp_path / "a" / "a.mp4", frames)
    for number, mask in enumerate(white):
        Image.fromarray(mask).save(tmp_path / "a" / "masks" / f"{number}.png")
    eye = torch.eye(6).view(2, 3, 6).expand(4, -1, -1, -1)
    still = torch.arange(4).repeat(2, 1).T
    encode = lambda *_: vj.Features(eye, still, 16, (32, 48), (32, 48), "by hand")
    found = compare_encoders.propagation(encode, compare_encoders.sequences(tmp_path))
    assert found["a"][0] > 0.8


def test_labels_do_not_jump_farther_than_twelve_cells():
    values = torch.zeros(2, 1, 30, 30)
    values[0, 0] = values[1, 0] = torch.eye(30)
    # the object's patch appears 20 columns away
    values[1, 0, 20], values[1, 0, 0] = (
        values[0, 0, 0],
        values[0, 0, 20],
    )
    labels = torch.zeros(1, 30, 2)
    labels[..., 0], labels[0, 0] = 1, torch.tensor([0.0, 1.0])
    assert propagate(clip_of(values), {0: labels})[1, 0, 20, 1] == 0


def test_patch_colours_are_the_means_of_cells():
    demo = vj.load_encoder(GOLDEN / "model", device="cpu", dtype=torch.float32)
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    values = PatchColours(demo, 4).encode(frames, size=(32, 48)).values
    # (frames, rows, 4, columns, 4, 3)
    cells = frames.astype(float).reshape(2, 2, 4, 4, 3, 4, 4, 3).mean((3, 6))
    expected = (cells / 255 - demo.mean.numpy()[:, 0, 0]) / demo.std.numpy()[:, 0, 0]
    # (rows, columns, frames × 3 × 4 × 4)
    expected = expected.transpose(1, 3, 0, 5, 2, 4).reshape(2, 3, -1)
    assert np.allclose(values[0], expected, atol=1e-5)


def test_random_weights_are_seeded_and_others():
    golden = vj.load_encoder(GOLDEN / "model", dtype=torch.float32)
    first, again, other = (
        random_weights(golden, seed).model.encoder.layer[0].mlp.fc1.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_matches_of_a_square_that_moves_one_patch_a_frame():
    """A square of 2×2 patches on a still backdrop, 16 pixels a frame to the right: two steps of
    two frames, 4×8 patches.
    """
    picture = lambda side: torch.ones(1, 4, side, side)
    number = torch.zeros(1, dtype=torch.long)
    x = torch.arange(4.0).view(1, 4) * 16
    layers = [
        Layer(picture(128), pose(torch.zeros(1, 4), 0), number),
        Layer(picture(32), pose(x, 16), number + 1),
    ]
    _, owner = composite(layers, 64, 128)  # (1, 4, 64, 128)
    poses = torch.stack([layer.poses for layer in layers], 2)  # (1, frames, layers, 2, 3)
    truth = owner.long().unflatten(1, (2, 2)), poses.unflatten(1, (2, 2))
    target = matches(*truth, torch.tensor([1, 0]))
    layer, flow, stays = flows(*truth)
    square = layer[0].view(4, 8) == 1
    assert torch.equal(square.nonzero(), torch.tensor([[1, 0], [1, 1], [2, 0], [2, 1]]))
    assert torch.equal(flow[0].view(4, 8, 2)[square], torch.tensor([[16.0, 0.0]]).expand(4, 2))
    assert not flow[0].view(4, 8, 2)[~square].any()
    # the square covers the backdrop before it in the second frame
    hidden = torch.tensor([[1, 2], [2, 2]])
    assert torch.equal((~stays[0]).view(4, 8).nonzero(), hidden)
    # Patch (1, 1) belongs to the square in both frames of step 0; two frames later it is at column
    # 3.
    assert target[0, 1 * 8 + 1].argmax() == 1 * 8 + 3
    # nothing of the backdrop that appeared behind it
    assert target[0, 1 * 8 + 1].view(4, 8)[:, :2].sum() == 0
    # square in the first frame, backdrop in the second: mixed
    assert target[0, 1 * 8 + 0].sum() == 0
    assert target[0, 1 * 8 + 3].sum() == 0  # backdrop that the square hides in step 1
    assert target[0, 0].argmax() == 0 and target[0, 0].sum().item() == pytest.approx(1)


def test_unseen_scenes_hold_what_they_say():
    scene = next(unseen_scenes(1, 3, 64, 96, seed=5, alike=1.0))
    assert scene.frames.shape == (3, 64, 96, 3) and scene.frames.dtype == np.uint8
    assert scene.masks.shape == scene.owner.shape == (3, 64, 96)
    # what moves is a thing
    assert np.array_equal(scene.masks[scene.masks > 0], scene.owner[scene.masks > 0])
    start = [1, 60.5, 20.5]
    tracks, visible, thing = scene.follow([start])
    assert (
        tracks.shape == (1, 3, 2)
        and tracks[0, 1] == pytest.approx(start[1:], abs=1e-3)
        and visible[0, 1]
    )
    assert thing[0] == scene.masks[1, 20, 60]
    again = next(unseen_scenes(1, 3, 64, 96, seed=5, alike=1.0))
    assert np.array_equal(scene.frames, again.frames)


def test_operations_of_the_encoder():
    """ViT-L on a pair at 256×256, worked by hand: 256 tokens × (24 blocks × (24·1024² + 4·256·1024)
    + 3072·1024) = 162 GFLOP.
    """
    from transformers import VJEPA2Config

    from benchmarks.encoder_speed import multiplications

    assert multiplications(VJEPA2Config(), 1, 2, 256, 256) == 256 * (
        24 * (25_165_824 + 1_048_576) + 3_145_728
    )
    assert multiplications(VJEPA2Config(), 3, 2, 256, 256) / 3e9 == pytest.approx(162, abs=0.5)
