"""Pictures whose every patch is known, read back from the drawing.

Each frame and each patch has a colour of its own, and the tests look at pixels of the drawn figure,
so that what is swapped, transposed, turned or of another step is seen.
"""

from functools import cache

import av
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageSequence

import vjepa_utils as vj
from vjepa_utils.drawing import HEAT, captioned

STEPS, ROWS, COLUMNS = GRID = 3, 4, 6
HEIGHT, WIDTH = 64, 96


class Identity:
    """A basis in which the first three channels are the colours."""

    foreground, explained_variance_ratio = False, np.array([0.5, 0.2, 0.1])

    def colours(self, features):
        return features.values[..., :3].numpy()


@pytest.fixture
def video(tmp_path):
    """Frames 3, 5, … 13 of a folder, lossless: red says the frame, green the column, blue the
    row."""
    folder = tmp_path / "clip"
    folder.mkdir()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for n in range(20):
        frame = np.stack([x * 0 + 12 * n, 40 + 2 * x, 40 + 3 * y], -1).astype(np.uint8)
        Image.fromarray(frame).save(folder / f"{n:02}.png")
    return vj.read_video(folder, start=3, every=2, count=6)


@pytest.fixture
def features():
    """Red says the row, green the column, blue the step."""
    s, r, c = np.meshgrid(*map(np.arange, GRID), indexing="ij")
    values = np.stack([0.1 + r * 0.25, 0.05 + c * 0.18, 0.1 + s * 0.4], -1)
    frames = torch.tensor([[3, 5], [7, 9], [11, 13]])
    size = HEIGHT, WIDTH
    return vj.Features(torch.from_numpy(values).float(), frames, 16, size, size, "an-encoder")


@cache
def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def pictures(figure):
    """Axes with pictures as they are drawn: rows from the top, each from left to right."""
    pixels(figure)
    rows = {}
    for axis in figure.axes:
        if axis.images and axis.get_label() != "<colorbar>":
            rows.setdefault(round(-axis.get_window_extent().y1 / 4), []).append(axis)
    return [sorted(rows[y], key=lambda axis: axis.get_window_extent().x0) for y in sorted(rows)]


def seen(axis, rows=ROWS, columns=COLUMNS):
    """The drawn pixels at the middles of a grid over a picture: (rows, columns, 3), 0 to 255."""
    image, box = pixels(axis.figure), axis.get_window_extent()
    x = box.x0 + (np.arange(columns) + 0.5) / columns * box.width
    y = len(image) - box.y1 + (np.arange(rows) + 0.5) / rows * box.height
    return image[y.astype(int)[:, None], x.astype(int)]


def frame_at(number):
    """What `seen` should find of a frame."""
    x = (np.arange(COLUMNS) + 0.5) / COLUMNS * WIDTH
    y = (np.arange(ROWS) + 0.5) / ROWS * HEIGHT
    y, x = np.meshgrid(y, x, indexing="ij")
    return np.stack([x * 0 + 12 * number, 39 + 2 * x, 38.5 + 3 * y], -1)


def same(found, expected, within=5):
    return np.abs(found - np.asarray(expected)).max() < within


def heading(figure):
    return figure.get_suptitle()


def bars(figure):
    """[(lower end, upper end, what is written at them, name)] of the colour bars, from the top."""
    found = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    found.sort(key=lambda axis: -axis.get_position().y1)
    return [
        (*axis.get_yticks(), *(t.get_text() for t in axis.get_yticklabels()), axis.get_ylabel())
        for axis in found
    ]


# Frames and colours


def test_frames_in_their_order_under_their_numbers_and_times(video):
    figure = vj.figures.frame_strip(video, most=3)
    axes = sum(pictures(figure), [])
    assert [axis.get_title() for axis in axes] == [
        f"frame {n}, {n / 30:.2f} s" for n in (3, 7, 13)
    ]
    for axis, n in zip(axes, (3, 7, 13), strict=True):
        assert same(seen(axis), frame_at(n))
    assert heading(figure) == "clip · 6 frames of 96×64 pixels"


def test_a_gallery_reads_like_text(video):
    rows = pictures(vj.figures.frame_strip(video, most=6))
    assert [len(row) for row in rows] == [3, 3]
    assert [a.get_title().split(",")[0] for a in sum(rows, [])] == [
        f"frame {n}" for n in range(3, 15, 2)
    ]
    assert same(seen(rows[1][0]), frame_at(9))


def test_a_pair_both_blended_and_its_patches(video, features):
    figure = vj.figures.pair_panel(video, features, Identity(), step=1)
    axes = sum(pictures(figure), [])
    assert [a.get_title() for a in axes] == ["frame 7", "frame 9", "both blended", "their features"]
    for axis, n in zip(axes, (7, 9, 8), strict=False):
        assert same(seen(axis), frame_at(n))
    assert same(seen(axes[3]), 255 * features.values[1].numpy(), 2)
    assert heading(figure) == (
        "clip · an-encoder · 4×6 patches · 3 components hold 80 % of the variance"
    )


def test_steps_above_their_patches(video, features):
    figure = vj.figures.pca_strip(video, features, Identity(), most=2)
    frames, patches = pictures(figure)
    assert [a.get_title() for a in frames] == ["frames 3+5", "frames 11+13"]
    assert not any(a.get_title() for a in patches)  # once per column
    assert (frames[0].get_ylabel(), patches[0].get_ylabel()) == ("first frame", "features")
    for place, step in enumerate((0, 2)):
        assert same(seen(frames[place]), frame_at(3 + 4 * step))
        assert same(seen(patches[place]), 255 * features.values[step].numpy(), 2)
    assert "clip · an-encoder · 4×6 patches" in heading(figure)


def test_colourings_and_heat_maps_below_each_other(video, features):
    heat = np.linspace(-1, 1, STEPS * ROWS * COLUMNS).reshape(GRID)
    heat[:, 0, 0] = np.nan
    rows = {
        "turned": 1 - Identity().colours(features),
        "heat": vj.figures.Heat(heat, -0.5, 2, "made up"),
    }
    figure = vj.figures.compare_strips(video, features, rows, about="a trial")
    drawn = pictures(figure)
    assert [row[0].get_ylabel() for row in drawn] == ["first frame", "turned", "heat"]
    for step in range(STEPS):
        assert same(seen(drawn[1][step]), 255 - 255 * features.values[step].numpy(), 2)
        expected = 255 * colormaps["inferno"]((heat[step] + 0.5) / 2.5)[..., :3]
        expected[0, 0] = 205  # NaN is grey
        assert same(seen(drawn[2][step]), expected, 3)
    assert bars(figure) == [(-0.5, 2, "−0.5", "2", "made up")]
    assert heading(figure) == "clip · a trial"


def test_patches_lie_on_what_they_show(video, features):
    figure = vj.figures.overlay(video, features, Identity(), step=2, opacity=0.5)
    ((axis,),) = pictures(figure)
    expected = (frame_at(11) + 255 * features.values[2].numpy()) / 2
    assert axis.get_title() == "frames 11+13" and same(seen(axis), expected)
    assert heading(figure).startswith("clip · an-encoder · ")


def test_change_is_one_minus_cosine_of_successive_steps(video, features):
    """Patch (1, 4) turns by 60°, then patch (2, 0) by 90°."""
    values = torch.zeros(*GRID, 2)
    values[..., 0] = 3
    values[1:, 1, 4] = torch.tensor([0.5, 3**0.5 / 2])
    values[2, 2, 0] = torch.tensor([0, 1.0])
    features.values = values
    moved = vj.figures.changes(features)
    expected = np.zeros((2, ROWS, COLUMNS))
    expected[0, 1, 4], expected[1, 2, 0] = 0.5, 1
    assert np.allclose(moved, expected, atol=1e-6)

    figure = vj.figures.change_strip(video, features)
    frames, maps = pictures(figure)
    assert [a.get_title() for a in frames] == ["frames 7+9", "frames 11+13"]
    assert same(seen(frames[0]), frame_at(7)) and same(seen(frames[1]), frame_at(11))
    top = np.percentile(expected, 99)
    for axis, values in zip(maps, expected, strict=True):
        assert same(seen(axis), 255 * colormaps["inferno"](values / top)[..., :3], 3)
    assert bars(figure) == [(0, pytest.approx(top), "0", "0.76", "1 − cosine")]
    assert heading(figure).startswith("clip · an-encoder · ")


# Films


def film(path):
    if path.suffix == ".gif":
        with Image.open(path) as picture:
            return [
                np.asarray(frame.convert("RGB")).astype(int)
                for frame in ImageSequence.Iterator(picture)
            ]
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_a_film_shows_each_frame_beside_its_step(video, features, tmp_path, kind):
    path = tmp_path / f"film.{kind}"
    vj.figures.animate(video, features, Identity(), path)
    shown = film(path)
    assert len(shown) == 6
    for place, picture in enumerate(shown):
        half = picture.shape[1] // 2
        bar = len(picture) - half * ROWS // COLUMNS
        assert (picture[:bar] < 90).all(-1).any()  # words
        for side, expected, within in (
            (picture[bar:, :half], frame_at(3 + 2 * place), 16),
            (picture[bar:, half:], 255 * features.values[place // 2].numpy(), 16),
        ):
            rows, columns = np.array(side.shape[:2]) // (ROWS, COLUMNS)
            middles = side[rows // 2 :: rows, columns // 2 :: columns][:ROWS, :COLUMNS]
            assert same(middles, expected, within)


def test_a_film_runs_at_the_clips_rate(video, features, tmp_path):
    vj.figures.animate(video, features, Identity(), tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.video[0].average_rate == 15  # every second of 30


def test_captions_are_broken_where_the_picture_ends():
    black = np.zeros((20, 201, 3), np.uint8)
    words = "a caption of many words that does not fit in one line of so narrow a picture"
    (picture,) = captioned([black], [words])
    height, width = picture.shape[:2]
    assert width == 200 and height % 2 == 0 and height > 20 + 3 * 16
    assert (picture[: height - 20, -7:] == 255).all() and (picture[height - 20 :] == 0).all()
    lines = (picture[: height - 20] < 128).all(-1).any(1)
    assert np.count_nonzero(np.diff(lines.astype(int)) == 1) >= 3


# Files


def test_the_same_figure_gives_the_same_file(video, features, tmp_path):
    figure = vj.figures.pca_strip(video, features, Identity())
    again = vj.figures.pca_strip(video, features, Identity())
    for name, each in (("a", figure), ("b", figure), ("c", again)):
        vj.figures.save(each, tmp_path / f"{name}.png")
    first, *rest = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert all(each == first for each in rest)


@pytest.mark.parametrize("size", [(128, 72), (72, 128), (64, 64), (20, 300)])
@pytest.mark.parametrize("steps", [1, 40])
def test_no_figure_is_wider_than_a_page(size, steps, features, tmp_path):
    height, width = size
    clip = np.random.default_rng(0).integers(0, 256, (2 * steps, *size, 3), np.uint8)
    features.values = torch.rand(steps, 4, 4, 3)
    features.frames = torch.arange(2 * steps).view(-1, 2)
    features.encoder = "an-encoder-with-a-long-name " * 5
    for figure in (
        vj.figures.pca_strip(clip, features, Identity()),
        vj.figures.pair_panel(clip, features, Identity()),
        vj.figures.overlay(clip, features, Identity()),
    ):
        assert figure.get_figwidth() * figure.dpi <= 1000
        vj.figures.save(figure, tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.width <= 1300
        text = figure._suptitle.get_window_extent()
        assert text.x0 >= 0 and text.x1 <= figure.bbox.width  # broken into lines that fit
        boxes = [axis.get_window_extent() for axis in sum(pictures(figure), [])]
        assert text.y0 >= max(box.y1 for box in boxes)
        assert all(box.height / box.width == pytest.approx(height / width, 0.02) for box in boxes)


def test_a_step_that_is_not_there(video, features):
    for draw in (vj.figures.pair_panel, vj.figures.overlay):
        with pytest.raises(ValueError, match="step must be below 3, the number of steps, not 3"):
            draw(video, features, Identity(), step=3)


def test_a_scale_of_nothing_but_nan(video, features):
    heat = vj.figures.Heat(np.full(GRID, np.nan), 0, 1, "cosine")
    drawn = pictures(vj.figures.compare_strips(video, features, {"heat": heat}))
    assert same(seen(drawn[1][0]), 255 * np.array(HEAT.get_bad()[:3]), 2)
