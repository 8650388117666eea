"""Masks that follow what is marked: planted features with known answers, DAVIS's form."""

import numpy as np
import pytest
import torch
from PIL import Image

import vjepa_utils as vj
from tests.conftest import write_video
from vjepa_utils.features import Features
from vjepa_utils.guided import guided, upsampled
from vjepa_utils.segmentation import agreement, mask_strip, object_colours, segment
from vjepa_utils.segmentation.propagation import overlap
from vjepa_utils.segmentation.segment import palette

ROWS, COLUMNS, PATCH = 5, 8, 16


def clip(steps=6, at=lambda step: 1 + step):
    """A red square of 2×2 patches in rows 1 and 2 that moves over grey, one column a frame; its
    features and those of the ground are orthogonal. Returns frames, features, true masks.
    """
    frames = np.full((steps, ROWS * PATCH, COLUMNS * PATCH, 3), 90, np.uint8)
    values, truth = torch.zeros(steps, ROWS, COLUMNS, 4), np.zeros(frames.shape[:3], np.uint8)
    values[..., 0] = 1
    for step in range(steps):
        x = at(step)
        values[step, 1:3, x : x + 2] = torch.tensor([0.0, 1, 0, 0])
        truth[step, PATCH : 3 * PATCH, x * PATCH : (x + 2) * PATCH] = 1
        frames[step][truth[step] == 1] = 220, 30, 30
    size = frames.shape[1:3]
    numbers = torch.arange(steps).repeat(2, 1).T
    return frames, Features(values, numbers, PATCH, size, size, "planted"), truth


INSIDE = (1.5 * PATCH, 1.5 * PATCH, 1)


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize(
    "hint",
    [dict(points=[INSIDE]), dict(points=[INSIDE, (100, 70, 0)]), dict(box=(18, 18, 46, 46))],
)
def test_a_mark_becomes_masks_that_follow(hint, edges):
    frames, features, truth = clip()
    masks = segment(frames, features, **hint, edges=edges)
    overlaps = [agreement(masks.labels, truth)[1][0]]
    assert min(overlaps) > (0.97 if edges else 0.85)
    assert np.array_equal(masks.frames, range(6)) and masks.soft.shape == (6, ROWS, COLUMNS, 2)
    inner = slice(1, -1)
    assert masks.area[0, inner] == pytest.approx(truth.sum((1, 2))[inner], rel=0.15)
    assert masks.centre[0, 2] == pytest.approx((4 * PATCH, 2 * PATCH), abs=1)


def test_several_objects_by_mask_forwards_and_backwards():
    frames, features, truth = clip()
    features.values[:, 4, 6:] = torch.tensor([0.0, 0, 1, 0])  # a second thing that stays
    truth[:, 4 * PATCH :, 6 * PATCH :] = 2
    masks = segment(frames, features, masks=truth[3], at=3, edges=False)
    found = agreement(masks.labels, truth)
    assert min(found[1][0], found[2][0]) > 0.8 and set(np.unique(masks.labels)) == {0, 1, 2}
    again = segment(frames, features, masks={0: truth[0], 5: truth[5]}, edges=False)
    assert agreement(again.labels, truth)[1][0] > 0.8


def test_of_a_still_clip_the_way_back_is_the_first_mask():
    frames, features, truth = clip(at=lambda step: 2)
    last = segment(frames, features, masks=truth[0], edges=False).labels[-1]
    back = segment(frames, features, masks=last, at=5, edges=False)
    assert overlap(last == 1, truth[0] == 1) > 0.85  # bilinear edges
    assert overlap(back.labels[0] == 1, last == 1) > 0.85


def test_frames_are_numbers_of_the_file_and_the_other_object_is_left(tiny, tmp_path):
    frames = clip(12)[0]
    video = vj.read_video(write_video(tmp_path / "v.mp4", frames), start=2, every=2)
    features = clip(5)[1]
    features.frames = torch.from_numpy(video.indices).repeat(2, 1).T
    masks = segment(video, features, points={6: [(3.5 * PATCH, 1.5 * PATCH, 1)]})
    assert masks.frames.tolist() == [2, 4, 6, 8, 10]


def test_nothing_is_carried_over_a_cut():
    frames, features, truth = clip()
    noise = np.random.default_rng(0).integers(0, 256, frames[4:].shape)
    frames[4:] = np.where(noise > 128, 250, 5)
    with pytest.warns(UserWarning, match="over a cut: frames 4 to 5 have no mask"):
        masks = segment(frames, features, masks=truth[0])
    assert masks.labels[3].any() and not masks.labels[4:].any()


def test_the_palette_and_files_are_those_of_davis(tmp_path):
    assert palette()[:5].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
    ]
    assert palette()[255].tolist() == [224, 224, 192]
    frames, features, truth = clip()
    masks = segment(frames, features, masks=truth[0])
    masks.save(tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{i:05d}.png" for i in range(6)]
    picture = Image.open(files[2])
    assert picture.mode == "P" and np.array_equal(np.asarray(picture), masks.labels[2])
    assert picture.getpalette()[3:6] == [128, 0, 0]


# Edges


def test_a_guided_map_takes_the_edge_of_the_frame_and_its_mean_elsewhere():
    """An edge within a patch: bilinear is a ramp, guided a step where the frame has it."""
    frame = np.full((32, 64, 3), 40, np.uint8)
    frame[:, 28:] = 200  # within patch 1, 16 to 32
    features = Features(
        torch.zeros(1, 2, 4, 1), torch.zeros(1, 2).long(), 16, (32, 64), (32, 64), "x"
    )
    maps = torch.tensor([[[0.0, 0.25, 1, 1]] * 2])
    fine, coarse = guided(maps, frame, features)[0], upsampled(maps, (32, 64), features)[0]
    step = lambda values: float(values[:, 29].mean() - values[:, 26].mean())
    assert step(fine) > 2.5 * step(coarse) and fine.shape == (32, 64)
    flat = guided(maps, np.full_like(frame, 90), features)[0]
    assert (flat[:, 60] - 1).abs().max() < 1e-4 and flat[:, 2].abs().max() < 0.05


def test_upsampled_puts_tokens_of_a_smaller_stride_at_their_centres():
    features = Features(
        torch.zeros(1, 4, 8, 1), torch.zeros(1, 2).long(), 16, (32, 64), (32, 64), "x", stride=8
    )
    maps = torch.arange(8.0).expand(1, 4, 8)  # column k is centred at 8 k + 8
    found = upsampled(maps, (32, 64), features)[0, 10]
    assert found[8:56].numpy() == pytest.approx((np.arange(8, 56) + 0.5 - 8) / 8, abs=1e-5)


# Pictures and commands


def test_the_strip_shows_the_object_in_its_colour():
    frames, features, truth = clip()
    figure = mask_strip(frames, segment(frames, features, masks=truth[0], edges=False))
    pictures = [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]
    assert len(pictures) == 6
    colours = object_colours(frames, truth)
    expected = 0.45 * frames[2][24, 64].astype(float) + 0.55 * colours[1]
    assert pictures[2][24, 64] == pytest.approx(expected, abs=1)
    assert pictures[2][70, 10] == pytest.approx(0.6 * frames[2][70, 10].astype(float), abs=1)
    assert "planted" in figure.get_suptitle() and "object 1" in figure.get_suptitle()


def test_an_object_is_drawn_in_a_colour_unlike_its_own():
    """A red and a blue square on grey: neither is drawn in its colour, nor both in one."""
    frames, labels = np.full((2, 8, 16, 3), 128, np.uint8), np.zeros((2, 8, 16), np.uint8)
    frames[:, :4, :4], labels[:, :4, :4] = (220, 40, 40), 1
    frames[1, 4:, 8:], labels[1, 4:, 8:] = (40, 40, 220), 2
    _, first, second = object_colours(frames, labels)
    away = lambda *pair: np.linalg.norm(np.subtract(*pair))
    assert min(away(first, (220, 40, 40)), away(second, (40, 40, 220)), away(first, second)) > 200


def test_the_command_writes_strip_film_and_folder_and_measures(command, tmp_path):
    frames, _, truth = clip(4)
    path = write_video(tmp_path / "clip.mp4", frames)
    (tmp_path / "true").mkdir()
    for number, mask in enumerate(truth):
        Image.fromarray(mask * 255).save(tmp_path / "true" / f"{number:05d}.png")
    words = ["segment", path, "--point", "24,24", "--size", 80, "--truth", tmp_path / "true"]
    for out in ("strip.png", "film.mp4", "masks"):
        found = command(*words, "-o", tmp_path / out)
        assert found.returncode == 0, found.stderr
        assert "J&F" in found.stdout and "vjepa2-demo" in found.stdout
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4
    assert (tmp_path / "strip.png").stat().st_size and (tmp_path / "film.mp4").stat().st_size


def test_colours_of_one_thing_alone():
    """The square's patches have colours, fitted on them; everything else is grey."""
    frames, features, truth = clip()
    features.values += 0.1 * torch.randn(features.values.shape, generator=torch.manual_seed(0))
    cover = segment(frames, features, masks=truth[0], edges=False).cover(features)
    assert cover.shape == features.grid and cover[2, 1:3, 3:5].min() > 0.5
    colours = vj.PCAColours().fit(features, weights=cover)
    shown = vj.figures.painted(features, colours, cover)
    assert np.allclose(shown[cover.numpy() < 0.5], 205 / 255)
    inside = shown[cover.numpy() >= 0.5]
    assert inside.std() > 0.1 and np.array_equal(
        inside, colours.colours(features)[cover.numpy() >= 0.5]
    )


@pytest.mark.parametrize(
    ("hint", "sentence"),
    [
        ({}, "Give one of masks, points and box"),
        (dict(points=[INSIDE], box=(1, 1, 2, 2)), "Give one of masks, points and box"),
        (dict(points=[]), "points is empty"),
        (dict(points=[(500, 10, 1)]), "outside the picture"),
        (dict(points=[(5, 10, 0)]), "Nothing is marked"),
        (dict(masks=np.zeros((ROWS * PATCH, COLUMNS * PATCH), np.uint8)), "Nothing is marked"),
        (dict(masks=np.ones((3, 3), np.uint8)), "must have the clip's size, 128×80"),
        (dict(box=(9, 9, 3, 3)), "box must be left, top, right, bottom"),
        (dict(points=[INSIDE], at=77), "77"),
    ],
)
def test_bad_input(hint, sentence):
    frames, features, _ = clip()
    with pytest.raises(vj.UserError, match=sentence):
        segment(frames, features, **hint)
