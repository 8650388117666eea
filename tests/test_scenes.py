"""Ground truth of rendered clips, against the pictures themselves."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import vjepa_utils as vj
from demo.render.scenes import (
    Layer,
    composite,
    follow,
    masks_of,
    photographs,
    pose,
    random_scenes,
    textures,
)
from tests.conftest import ROOT


def square(colour, side=10):
    return torch.cat(
        [torch.tensor(colour).view(3, 1, 1).expand(3, side, side), torch.ones(1, side, side)]
    ).unsqueeze(0)


def test_a_hand_worked_scene():
    """A red square moves 2 pixels a frame to the right behind a still blue one, on a grey
    backdrop.
    """
    x = torch.tensor([[5.0, 7, 9, 11]])
    number = torch.zeros(1, dtype=torch.long)
    layers = [
        Layer(square([0.5, 0.5, 0.5], 40), pose(torch.zeros(1, 4), 0), number),
        Layer(square([1.0, 0, 0]), pose(x, 15), number + 1),
        Layer(square([0, 0, 1.0]), pose(torch.full((1, 4), 20.0), 10), number),
    ]
    frames, owner = composite(layers, 40, 40)
    masks = masks_of(layers, owner)[0].numpy()
    for t, left in enumerate((5, 7, 9, 11)):
        expected = np.zeros((40, 40), np.uint8)
        expected[15:25, left : left + 10] = 1
        expected[10:20, 20:30] = 0  # behind the blue square
        assert np.array_equal(masks[t], expected)
    assert frames[0, 3, :, 17, 15].tolist() == [1, 0, 0] and frames[0, 3, :, 12, 25].tolist() == [
        0,
        0,
        1,
    ]
    tracks, visible, thing = follow(layers, owner, torch.tensor([[[0, 13.5, 16.5], [0, 2.5, 2.5]]]))
    assert tracks[0, 0].tolist() == [[13.5, 16.5], [15.5, 16.5], [17.5, 16.5], [19.5, 16.5]]
    assert visible[0].tolist() == [[True] * 4] * 2 and thing[0].tolist() == [1, 0]
    assert follow(layers, owner, torch.tensor([[[0, 14.5, 16.5]]]))[1][0, 0].tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_random_scenes_are_seeded_and_true():
    """A point keeps its brightness along its track (light changes slowly), far better than a static
    point.
    """

    def scenes():
        generator = torch.Generator().manual_seed(3)
        bank = textures(20, generator, photographs(("cat", "coffee")))
        layers, _ = random_scenes(4, 6, 96, 96, generator, bank)
        return layers, *composite(layers, 96, 96)

    layers, frames, owner = scenes()
    assert torch.equal(frames, scenes()[1])
    masks = masks_of(layers, owner)
    most = int((masks[:, 0] > 0).sum((1, 2)).argmax())
    moving = torch.nonzero(masks[most, 0])
    chosen = moving[:: len(moving) // 20]
    starts = torch.stack(
        [torch.zeros(len(chosen)), chosen[:, 1] + 0.5, chosen[:, 0] + 0.5], -1
    ).expand(4, -1, 3)
    tracks, visible, _ = follow(layers, owner, starts)
    grid = tracks[most].transpose(0, 1).unsqueeze(2) / 48 - 1  # (frames, points, 1, 2)
    # (frames, 3, points)
    seen = torch.nn.functional.grid_sample(frames[most], grid, align_corners=False)[..., 0]
    stays = frames[most][:, :, chosen[:, 0], chosen[:, 1]]
    changed = lambda colours: (colours - stays[:1]).abs().mean(1)[visible[most].T].mean()
    assert visible[most, :, 0].all() and changed(seen) < 0.5 * changed(stays)


@pytest.mark.parametrize(
    ("name", "things", "size"), [("kitesurfing", 5, (1280, 720)), ("monkey", 1, (720, 1280))]
)
def test_ground_truth_of_the_shipped_clips(name, things, size):
    video = vj.read_video(ROOT / "videos" / f"{name}.mp4")
    truth = np.load(ROOT / "videos" / f"{name}.npz")
    assert (
        (video.height, video.width) == size
        and truth["masks"].shape == (len(video), *size)
        and truth["masks"].dtype == np.uint8
    )
    assert len(truth["names"]) == things == truth["masks"].max()
    tracks, visible = truth["tracks"], truth["visible"]
    assert (
        tracks.dtype == np.float32
        and visible.dtype == bool
        and tracks.shape == (*visible.shape, 2)
        and visible.any(1).all()
    )
    point, time = np.nonzero(visible)
    x, y = np.floor(tracks[point, time]).astype(int).T
    assert np.array_equal(truth["masks"][time, y, x], truth["object"][point])
    frames = video.frames[time, y, x].astype(float)  # colours along each track
    still = truth["object"][point] == 0
    spread = lambda chosen: np.mean(
        [frames[chosen & (point == p)].std(0).mean() for p in np.unique(point[chosen])]
    )
    assert spread(~still) < 25 and spread(still) < 12


def test_scenes_are_rendered_on_the_device_of_their_textures():
    """Fake tensors refuse to be mixed with those of another device; "meta" stands for a GPU."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        bank = torch.rand(8, 3, 128, 128, device="meta")
        layers, light = random_scenes(2, 4, 48, 64, torch.Generator(), bank)
        frames, owner = composite(layers, 48, 64, light)
        starts = torch.zeros(2, 5, 3, device="meta")
        drawn = frames, owner, masks_of(layers, owner), *follow(layers, owner, starts)
    assert {part.device.type for part in drawn} == {"meta"}
    assert frames.shape == (2, 4, 3, 48, 64) and drawn[3].shape == (2, 5, 4, 2)
