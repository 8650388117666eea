"""Pictures whose every patch is known, read back from the drawing.

Each frame and each patch has its own colour, and the tests look at pixels of the drawn figure, so
that whatever is swapped, transposed, rotated or of another step shows.
"""

import re
from functools import cache

import av
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageSequence

import vjepa_utils as vj
from tests.conftest import write_video
from vjepa_utils.actions.heads import Classification
from vjepa_utils.drawing import HEAT, captioned
from vjepa_utils.guided import guided

STEPS, ROWS, COLUMNS = GRID = 3, 4, 6
HEIGHT, WIDTH = 64, 96


class Identity:
    """A basis in which the first three channels are the colours."""

    foreground, place = False, None

    def share_of(self, features):
        return 0.8

    def colours(self, features):
        return features.values[..., :3].numpy()


@pytest.fixture
def video(tmp_path):
    """Frames 3, 5, … 13 of a folder, lossless: red encodes the frame, green the column, blue
    the row."""
    folder = tmp_path / "kites"
    folder.mkdir()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for n in range(20):
        frame = np.stack([x * 0 + 12 * n, 40 + 2 * x, 40 + 3 * y], -1).astype(np.uint8)
        Image.fromarray(frame).save(folder / f"{n:02}.png")
    return vj.read_video(folder, start=3, every=2, count=6)


@pytest.fixture
def features():
    """Red encodes the row, green the column, blue the step."""
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
    assert [axis.get_title() for axis in axes] == [f"frame {n}, {n / 30:.2f} s" for n in (3, 7, 13)]
    for axis, n in zip(axes, (3, 7, 13), strict=True):
        assert same(seen(axis), frame_at(n))
    assert heading(figure) == "kites · 6 frames of 96×64 pixels"


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
        "kites · an-encoder · 4×6 patches · 3 components hold 80 % of the variance"
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
    assert "kites · an-encoder · 4×6 patches" in heading(figure)


def test_colours_follow_the_edges_of_their_frame(features):
    frames = np.random.default_rng(0).integers(0, 256, (14, HEIGHT, WIDTH, 3), np.uint8)
    figure = vj.figures.pca_strip(frames, features, Identity(), most=2, edges=True)
    axis = pictures(figure)[1][1]  # of step 2, frames 11 and 13
    expected = guided(features.values[2].movedim(-1, 0), frames[11], features).movedim(0, -1)
    drawn = np.asarray(axis.images[0].get_array())
    assert drawn.dtype == np.uint8 and same(drawn.astype(int), 255 * expected.clamp(0, 1), 1.01)
    assert heading(figure).endswith("along the edges of the frame · 2 of 3 steps")


def test_colourings_and_heat_maps_below_each_other(video, features):
    heat = np.linspace(-1, 1, STEPS * ROWS * COLUMNS).reshape(GRID)
    heat[:, 0, 0] = np.nan
    rows = {
        "turned": 1 - Identity().colours(features),
        "heat": vj.figures.Heat(heat, -0.5, 2, "made up"),
    }
    figure = vj.figures.compare_strips(video, features, rows, caption="a trial")
    drawn = pictures(figure)
    assert [row[0].get_ylabel() for row in drawn] == ["first frame", "turned", "heat"]
    for step in range(STEPS):
        assert same(seen(drawn[1][step]), 255 - 255 * features.values[step].numpy(), 2)
        expected = 255 * colormaps["inferno"]((heat[step] + 0.5) / 2.5)[..., :3]
        expected[0, 0] = 205  # NaN is grey
        assert same(seen(drawn[2][step]), expected, 3)
    assert bars(figure) == [(-0.5, 2, "−0.5", "2", "made up")]
    assert heading(figure) == "kites · a trial"


def test_a_caption_says_what_is_shown_and_how_fast(features, tmp_path):
    """The share is that of the tokens shown, not of those fitted; the rate that of the frames."""
    torch.manual_seed(0)
    features.values = torch.randn(*GRID, 8)
    other = vj.Features(**vars(features) | {"values": torch.randn(1, 5, 5, 8)})
    fitted = vj.PCAColours().fit(other)
    tokens = features.values.flatten(0, 2).double().numpy()
    tokens -= tokens.mean(0)
    share = ((tokens @ fitted._axes.T) ** 2).sum() / (tokens**2).sum()
    assert abs(share - fitted.explained_variance_ratio.sum()) > 0.05
    film = write_video(tmp_path / "film.mp4", np.zeros((29, HEIGHT, WIDTH, 3), np.uint8))
    features.frames = torch.tensor([[3, 7], [11, 15], [19, 23]])
    video = vj.read_video(film)
    words = "film.mp4 · frames at 7.5 a second · an-encoder · 4×6 patches · 3 components hold "
    words += f"{100 * share:.0f} % of the variance"
    assert heading(vj.figures.pca_strip(video, features, fitted)).startswith(words)
    assert heading(vj.figures.overlay(video, features, fitted)).startswith(words)
    place = vj.PCAColours(remove="place").fit(features)
    assert heading(vj.figures.overlay(video, features, place)).endswith(
        "of the variance beside that of places"
    )
    place.removed = "places in means.safetensors"
    assert "beside that of places in means" in heading(vj.figures.pca_strip(video, features, place))
    assert heading(vj.figures.frame_strip(vj.read_video(film, every=4))).startswith(
        "film.mp4 · frames at 7.5 a second"
    )


def test_frames_of_another_clip_are_refused(video, features):
    features.source_size = HEIGHT // 2, WIDTH
    sentence = "This clip has 96×64 pixels, and the one that was encoded 96×32: draw the frames of"
    for draw in (vj.figures.pca_strip, vj.figures.pair_panel, vj.figures.overlay):
        with pytest.raises(ValueError, match=sentence):
            draw(video, features, Identity())
    with pytest.raises(ValueError, match=sentence):
        vj.figures.animate(video, features, Identity(), "film.mp4")
    with pytest.raises(ValueError, match=sentence):
        vj.figures.change_strip(video, features)


def test_patches_lie_on_what_they_show(video, features):
    figure = vj.figures.overlay(video, features, Identity(), step=2, opacity=0.5)
    ((axis,),) = pictures(figure)
    expected = (frame_at(11) + 255 * features.values[2].numpy()) / 2
    assert axis.get_title() == "frames 11+13" and same(seen(axis), expected)
    assert heading(figure).startswith("kites · an-encoder · ")


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
    assert heading(figure).startswith("kites · an-encoder · ")


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


def test_four_a_second_of_thirty_are_four(tmp_path):
    """Their distances are 7 and 8 frames, 7.5 on average."""
    film = write_video(tmp_path / "film.mp4", np.zeros((60, HEIGHT, WIDTH, 3), np.uint8))
    words = heading(vj.figures.frame_strip(vj.read_video(film, fps=4)))
    assert float(re.search(r"frames at (\S+) a second", words)[1]) == pytest.approx(4, abs=0.1)


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


@pytest.mark.parametrize(
    ("size", "steps"), [((128, 72), 40), ((72, 128), 40), ((64, 64), 1), ((20, 300), 1)]
)
def test_no_figure_is_wider_than_a_page(size, steps, features, tmp_path):
    height, width = size
    clip = np.random.default_rng(0).integers(0, 256, (2 * steps, *size, 3), np.uint8)
    features.values = torch.rand(steps, 4, 4, 3)
    features.frames = torch.arange(2 * steps).view(-1, 2)
    features.encoder, features.source_size = "an-encoder-with-a-long-name " * 5, size
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


# What the predictor recovers


def recovered(features, hidden, predicted=None):
    """A Recovery of given features that sees the visible ones as they are; the prediction is the
    truth unless given."""
    target = features.values
    predicted = target[hidden] if predicted is None else predicted
    return vj.Recovery(features, hidden, target[~hidden], predicted, 0)


COSINE = "cosine of prediction\nwith whole clip"


def test_what_is_hidden_filled_in_and_how_similar(video, features):
    """The prediction is right, of the wrong sign, and at a right angle, in three hidden patches."""
    features.values = torch.randn(*GRID, 4, generator=torch.Generator().manual_seed(0))
    hidden = np.zeros(GRID, bool)
    hidden[0, 1, 4] = hidden[1, 2, 0] = hidden[2, 3, 5] = True
    truth = features.values[hidden]
    across = torch.stack([-truth[2, 1], truth[2, 0], -truth[2, 3], truth[2, 2]])
    found = recovered(features, hidden, torch.stack([truth[0], -truth[1], across]))
    figure = vj.recovery.recovery_strip(
        video, {"three": found, "none": recovered(features, hidden)}
    )
    drawn = pictures(figure)
    names = ["three 4 %", "whole clip", "filled in", COSINE, "none 4 %", "filled in", COSINE]
    assert [row[0].get_ylabel() for row in drawn] == names
    assert [a.get_title() for a in drawn[0]] == ["frames 3+5", "frames 7+9", "frames 11+13"]
    painted = vj.PCAColours().fit(features)
    filled = painted.colours(found.filled)
    cosine = [1.0, 0.0, 0.0]  # as drawn; that of the wrong sign lies below the scale
    for step in range(STEPS):
        where = hidden[step]
        veiled = seen(drawn[0][step])
        assert same(veiled[~where], frame_at(3 + 4 * step)[~where])
        assert (np.ptp(veiled[where], -1) < 3).all() and (veiled[where] > 170).all()  # grey
        assert same(seen(drawn[1][step]), 255 * painted.colours(features)[step], 3)
        assert same(seen(drawn[2][step]), 255 * filled[step], 3)
        error = seen(drawn[3][step])
        assert same(error[~where], 205, 2)
        assert same(error[where], 255 * np.array(colormaps["inferno"](cosine[step])[:3]), 4)
        assert same(seen(drawn[6][step])[where], 255 * np.array(HEAT(1.0)[:3]), 4)
    assert bars(figure) == [(0, 1, "0", "1", "cosine")] * 2
    about = heading(figure)
    assert about.startswith("kites · an-encoder · 4×6 patches · 3 components hold")
    assert "three 4 %: mean cosine of prediction 0.00, baselines mean " in about
    assert (
        "none 4 %: mean cosine of prediction 1.00, baselines mean " in about
        and "same place" in about
    )
    hidden[:, 0, 0] = True  # never visible, so nothing to copy from the same place
    hidden[0, 1, 4] = hidden[1, 2, 0] = hidden[2, 3, 5] = False
    figure = vj.recovery.recovery_strip(video, recovered(features, hidden))
    assert "same place" not in heading(figure)


def test_curves_are_means_over_tokens_and_seeds(features):
    grid = (4, 3, 3)
    masks = {
        0.25: vj.masks.block(grid, 0.25),
        0.6: vj.masks.block(grid, 0.6),
        "future": vj.masks.future(grid, 1),
    }
    features.frames, many = torch.arange(8).view(-1, 2), []
    for seed in range(3):
        features.values = torch.randn(*grid, 8, generator=torch.Generator().manual_seed(seed))
        each = vj.Features(**vars(features))
        found = {n: recovered(each, mask, each.values[mask] + seed) for n, mask in masks.items()}
        many.append(found)
    figure = vj.recovery.recovery_curves(many, "three seeds")
    left, right = figure.axes
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["prediction", "mean", "nearest", "same place"]
    handles = [handle[0].get_color() for handle in left.get_legend_handles_labels()[0]]
    assert handles == [line.get_color() for line in left.get_lines()[:4]]  # each under its name
    lines = lambda axis: [line.get_ydata() for line in axis.get_lines()]
    for axis, keys in ((left, (0.25, 0.6)), (right, (2, 3))):
        means = np.array(
            [
                [found[k].means() if k in found else _of_step(found, k) for found in many]
                for k in keys
            ]
        )  # (points, seeds)
        for place, name in enumerate(names):
            values = np.array([[means[name] for means in row] for row in means])
            assert lines(axis)[place] == pytest.approx(values.mean(1), nan_ok=True)
            bar = axis.containers[place].lines[2][0].get_segments()
            length = [np.ptp(segment[:, 1]) / 2 for segment in bar if len(segment)]
            assert length == pytest.approx(values.std(1)[np.isfinite(values.std(1))].tolist())
    assert np.isnan(lines(left)[3]).all() and lines(right)[2] == pytest.approx(lines(right)[3])
    assert [float(x) for x in left.get_xticks()] == [25, 60]
    assert [float(x) for x in right.get_xticks()] == [1, 2]
    assert right.get_xlabel() == "steps into the future, 2 visible"
    assert left.get_ylabel() == "mean cosine with the target"
    assert heading(figure).startswith("an-encoder · three seeds")


def _of_step(found, step):
    where = np.zeros(found["future"].hidden.shape, bool)
    where[step] = True
    return found["future"].means(where=where)


# Several encoders


def test_encoders_below_each_other_in_colours_that_follow_the_first(video, features):
    """The second has the first's components, in another order and turned: the same picture."""
    random = torch.randn(*GRID, 3, generator=torch.Generator().manual_seed(0))
    random = torch.linalg.qr((random - random.mean((0, 1, 2))).reshape(-1, 3))[0].reshape(
        random.shape
    )
    first = vj.Features(**vars(features) | {"values": random * torch.tensor([3, 2, 1])})
    turned = random[..., [2, 0, 1]] * torch.tensor([-3, 2, -1])
    second = vj.Features(**vars(features) | {"values": turned, "encoder": "hub/another"})
    other = torch.randn(*GRID, 5, generator=torch.Generator().manual_seed(1))
    third = vj.Features(**vars(features) | {"values": other, "encoder": "third"})
    every = {"an-encoder": first, "hub/another": second, "third": third}
    figure = vj.comparison.encoders_strip(video, every)
    drawn = pictures(figure)
    labels = ["first frame", "an-encoder", "another", "third"]
    assert [row[0].get_ylabel() for row in drawn] == labels
    basis = vj.PCAColours().fit(first)
    for step in range(STEPS):
        expected = 255 * basis.colours(first)[step]
        assert same(seen(drawn[0][step]), frame_at(3 + 4 * step))
        assert same(seen(drawn[1][step]), expected, 3) and same(seen(drawn[2][step]), expected, 3)
        assert not same(seen(drawn[3][step]), expected, 50)
    words = heading(figure)
    assert (
        "another: 100 % of the variance, r with the first row red 1.00, green 1.00, blue 1" in words
    )
    _, random = words.split("third: ")
    unlike = [c for c, r in re.findall(r"(red|green|blue) (-?[\d.]+)", random) if float(r) < 0.5]
    assert unlike and random.endswith(f"({' and '.join(unlike)}: no correspondence)")
    assert heading(figure).startswith(
        "kites · 4×6 patches · each in its own basis · an-encoder: 100"
    )


def test_similar_to_the_token_under_the_ring(video, features):
    """Each patch is similar to itself alone, and to those of its row as far as columns are near."""
    angle = 0.3 * torch.arange(COLUMNS)
    values = torch.zeros(*GRID, 8)
    for row in range(ROWS):
        values[:, row, :, 2 * row] = angle.cos()
        values[:, row, :, 2 * row + 1] = angle.sin()
    other = vj.Features(**vars(features) | {"values": values**3, "encoder": "hub/cubed"})
    features.values = values
    point = (72.0, 24.0)  # of 96×64: row 1, column 4
    figure = vj.comparison.similarity_strip(
        video, {"an-encoder": features, "hub/cubed": other}, point, frame=9, most=2
    )
    drawn = pictures(figure)
    assert [row[0].get_ylabel() for row in drawn] == ["first frame", "an-encoder", "cubed"]
    # the step asked for is there in place of its nearest neighbour, by the frame asked for
    assert [a.get_title() for a in drawn[0]] == ["frame 9 of frames 7+9", "frames 11+13"]
    axis = drawn[0][0]
    assert same(seen(axis)[2:], frame_at(9)[2:]) and same(seen(drawn[0][1]), frame_at(11))
    image = pixels(figure)
    x, y = axis.transData.transform((point[0] - 0.5, point[1] - 0.5))
    radius = 4.5 / 72 * figure.dpi
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):  # black in the middle of white
        at = lambda r, dx=dx, dy=dy: image[len(image) - 1 - int(y + r * dy), int(x + r * dx)]
        assert at(radius).max() < 110 and any(
            at(radius + w).min() > 150 for w in np.arange(0.6, 2.5, 0.2)
        )
    assert not drawn[0][1].lines and not drawn[1][0].lines
    for row in drawn[1:]:  # the same row, or the one token that is equal
        ((x,), (y,)) = row[1].lines[0].get_data()
        assert (x + 0.5, y + 0.5) == point
    for row, power in zip(drawn[1:], (1, 3), strict=True):
        tokens = np.stack([angle.cos().numpy(), angle.sin().numpy()]) ** power  # (2, columns)
        tokens /= np.linalg.norm(tokens, axis=0)
        cosine = np.zeros((ROWS, COLUMNS))
        cosine[1] = tokens[:, 4] @ tokens
        for axis in row:
            assert same(seen(axis), 255 * HEAT(cosine)[..., :3], 4)
    assert bars(figure) == [(0, 1, "0", "1", "cosine")] * 2
    assert heading(figure) == (
        "kites · an-encoder and hub/cubed · cosine with the token at (72, 24) of frame 9, "
        "each row from its 5th percentile · ring: the most similar token · 2 of 3 steps"
    )


def test_similarity_starts_at_its_fifth_percentile(video, features):
    figure = vj.comparison.similarity_strip(video, {"an-encoder": features}, (40, 40), 3)
    values = vj.comparison.similarity(features, (40, 40), 3)
    ((low, high, *_),) = bars(figure)
    assert (low, high) == (pytest.approx(np.percentile(values, 5)), 1)
    shown = (values[1] - low) / (1 - low)
    assert same(seen(pictures(figure)[1][1]), 255 * HEAT(shown.clip(0, 1))[..., :3], 4)


# Points


@pytest.fixture
def tracks(video):
    """One point goes right and is hidden in frames 9 and 11, one stays; drawn 640 pixels wide."""
    xy = np.zeros((2, 6, 2), np.float32)
    xy[0] = np.stack([15 + 10 * np.arange(6), np.full(6, 20)], -1)
    xy[1] = 30, 50
    visible = np.ones((2, 6), bool)
    visible[0, 3:5] = False
    queries = np.array([[3, 15, 20], [3, 30, 50]], np.float32)
    return vj.Tracks(xy, visible, queries, video.indices, (HEIGHT, WIDTH), "an-encoder")


def colour_of(tracks, point):
    """Hue by the angle of where the point was picked, from the middle of all."""
    x, y = (tracks.queries[:, 1:] - tracks.queries[:, 1:].mean(0))[point]
    return 255 * np.array(colormaps["hsv"]((np.arctan2(y, x) / 2 / np.pi) % 1)[:3])


def check_tracks(picture, tracks, place, within):
    """Dots, rings and tails of a drawn frame (height, width, 3) are where the tracks are."""
    scale = np.array(picture.shape[1::-1]) / (WIDTH, HEIGHT)
    at = lambda x, y: picture[tuple((np.array([y, x]) * scale[::-1]).astype(int))]
    dimmed = lambda x, y: (
        0.75 * np.array([12 * tracks.frames[place], 40 + 2 * x, 40 + 3 * y]) + 0.06 * 255
    )
    for point in range(2):
        x, y = tracks.xy[point, place]
        middle, colour = at(x, y), colour_of(tracks, point)
        if tracks.visible[point, place]:
            assert same(middle, colour, within)  # a dot
        else:
            assert same(middle, dimmed(x, y), within + 8)  # a ring is empty
            radius = max(3, min(picture.shape[:2]) / 110)
            around = [at(x + r / scale[0], y) for r in np.arange(radius - 2.5, radius + 0.6, 0.5)]
            assert min(np.abs(each - colour).max() for each in around) < within + 15
    # halfway between this place and the one before: a tail, if the point was visible in both
    if place:
        x, y = tracks.xy[0, place - 1 : place + 1].mean(0)
        drawn = same(at(x, y), colour_of(tracks, 0), within + 15)
        assert drawn == tracks.visible[0, place - 1 : place + 1].all()
        assert same(at(x, y + 6), dimmed(x, y + 6), within + 8)


def test_tracks_are_dots_rings_and_tails(video, tracks):
    figure = vj.tracking.track_strip(video, tracks, most=6)
    axes = sum(pictures(figure), [])
    assert [a.get_title() for a in axes] == [f"frame {n}" for n in range(3, 15, 2)]
    for place, axis in enumerate(axes):
        check_tracks(np.asarray(axis.images[0].get_array()).astype(int), tracks, place, 12)
        # the drawn figure shows this picture upright
        assert same(seen(axis)[2:, 3:], (0.75 * frame_at(3 + 2 * place) + 15.3)[2:, 3:], 8)
    about = "kites · 2 points tracked independently · an-encoder · dot: visible, ring: hidden"
    assert heading(figure) == about


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_a_film_of_tracks_goes_with_the_clip(video, tracks, tmp_path, kind):
    path = tmp_path / f"film.{kind}"
    vj.tracking.animate_tracks(video, tracks, path)
    shown = film(path)
    assert len(shown) == 6
    for place, picture in enumerate(shown):
        check_tracks(picture, tracks, place, 85)


def test_a_point_that_is_found_again_leaves_no_line(video, tracks):
    tracks.xy[1, 3:] = 80, 10
    axis = sum(pictures(vj.tracking.track_strip(video, tracks)), [])[3]
    picture = np.asarray(axis.images[0].get_array()).astype(int)
    y, x = (np.array([30, 55]) * len(picture) / HEIGHT).astype(int)  # halfway
    assert same(picture[y, x], 0.75 * np.array([108, 150, 130]) + 15.3, 8)


# Actions


def classification(labels, probabilities, frames):
    logits = torch.zeros(len(frames), 5)
    return Classification(
        labels, np.array(probabilities), logits, np.array(frames), "a-head", "Not trained."
    )


def test_each_bar_beside_its_class_the_likeliest_on_top(video):
    names, shares = ["up", "down", "left"], [0.6, 0.3, 0.05]
    found = classification(names, shares, [[3, 5], [11, 13]])
    figure = vj.actions.action_bars(video, found, most=3)
    frames, axis = pictures(figure)[0], figure.axes[-1]
    assert [a.get_title() for a in frames] == ["frame 3", "frame 11", "frame 13"]
    for each, n in zip(frames, (3, 11, 13), strict=True):
        assert same(seen(each), frame_at(n))
    image, box = pixels(figure), axis.get_window_extent()
    written = {label.get_text(): label.get_window_extent() for label in axis.get_yticklabels()}
    values = {text.get_text(): text.get_window_extent() for text in axis.texts}
    heights = []
    for name, share in zip(names, shares, strict=True):
        y = len(image) - 1 - int((written[name].y0 + written[name].y1) / 2)
        row = image[y, int(box.x0) + 3 : int(box.x1)]
        length = np.argmax((row > 230).all(-1)) + 3  # to the first white pixel
        assert length / box.width == pytest.approx(share / 1.08, abs=0.01)
        number = values[f"{share:.1%}"]
        assert number.y0 < len(image) - 1 - y < number.y1  # beside its bar
        heights.append(y)
    assert heights == sorted(heights)
    red = image[heights[0], int(box.x0) + 5]
    assert red[0] > 150 > red[1] and np.ptp(image[heights[1], int(box.x0) + 5]) < 5
    about = "kites · a-head · 4 frames in 2 segments, 2 views · Not trained."
    assert heading(figure) == about


def test_bars_of_a_single_frame():
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    assert vj.actions.action_bars(frames, classification(["up"], [1.0], [[0]])).axes


def test_true_classes_are_rows_and_predicted_ones_columns():
    truth = ["up"] * 4 + ["down"] * 2 + ["left"]
    found = ["up", "up", "up", "down", "left", "left", "left"]
    figure = vj.actions.confusion(truth, found, "an-encoder · a probe")
    axis = figure.axes[0]
    expected = np.array([[75, 25, 0], [0, 0, 100], [0, 0, 100]])
    (drawn,) = sum(pictures(figure), [])
    corners = seen(drawn, 30, 30)[2::10, 2::10]  # beside the numbers
    assert same(corners, 255 * colormaps["Reds"](expected / 100)[..., :3], 3)
    numbers = {text.get_position(): text.get_text() for text in axis.texts}
    assert numbers == {(0, 0): "75", (1, 0): "25", (2, 1): "100", (2, 2): "100"}
    below = sorted(axis.get_xticklabels(), key=lambda text: text.get_window_extent().x1)
    beside = sorted(axis.get_yticklabels(), key=lambda text: -text.get_window_extent().y0)
    assert [text.get_text() for text in below] == ["up", "down", "left"]
    assert [text.get_text() for text in beside] == ["up (4)", "down (2)", "left (1)"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true (clips)")
    assert bars(figure) == [(0, 100, "0", "100", "% of the row")]
    assert heading(figure) == "an-encoder · a probe"


def test_many_classes_stay_on_the_page():
    names = [f"class {i}" for i in range(60)]
    figure = vj.actions.confusion(names, names[::-1], "an-encoder")
    assert figure.get_figwidth() * figure.dpi <= 1000
