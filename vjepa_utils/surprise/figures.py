"""Figures and films of surprise: its place in the picture, and its curve over time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from vjepa_utils import drawing
from vjepa_utils.predict.masks import pixels
from vjepa_utils.predict.surprise import TARGETS, Surprise
from vjepa_utils.video import Clip, File, as_video

NAMES = {"cosine": "1 − cosine", "l1": "L1"}
COLOURS = {"prediction": "#c1272d", "last step": "#3a8a3a", "mean": "#777777", "pixels": "#0071a7"}
OPACITY = 0.6  # of the heat over a frame in grey


def surprise_strip(
    video: Clip,
    surprise: Surprise,
    error: str = "cosine",
    ahead: int = 1,
    most: int | None = None,
    moments: int = 3,
    expected: Callable[[int], np.ndarray] | None = None,
) -> Figure:
    """Frames, the surprise overlaid, its curve over time, and below it the baselines'.

    The moments of most surprise are numbered, in the curve and over their frames; the other frames
    are evenly spaced over the steps that were predicted. Of a step its first frame is shown.

    Args:
        video: the clip.
        surprise: of it, what `Encoder.surprise` gave.
        error: "cosine" (1 − cosine) or "l1".
        ahead: predicted from so many steps before.
        most: frames side by side; None takes as many as can be read.
        moments: how many to mark, at most.
        expected: what gives a third picture of a step, such as `decoding.expected`.
    """
    video = as_video(video)
    most = drawing.columns(video, most)
    marked = surprise.moments(min(moments, most), error, ahead)
    numbers = {step: f"({rank})  " for rank, step in enumerate(marked, 1)}
    frames, heat, top = _heat(surprise, error, ahead)
    predicted = np.flatnonzero(np.isfinite(heat).all((1, 2)))
    chosen = np.union1d(marked, predicted[drawing.evenly(len(predicted), most - len(marked))])
    pictures = drawing.frames_numbered(video, frames[chosen, 0])
    # inches of a picture
    tall = min(0.85 * drawing.WIDTH / len(chosen) * video.height / video.width, 2.2)
    rows = 3 if expected else 2
    figure = Figure((drawing.WIDTH, rows * tall + 3.9), drawing.SCREEN, layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[rows * tall + 0.6, 3.3])
    axes = upper.subplots(rows, len(chosen), squeeze=False)
    for column, step, picture in zip(axes.T, chosen, pictures, strict=True):
        shown = [picture, _laid_over(picture, heat[step], top)]
        shown += [expected(step)] if expected else []
        for axis, each in zip(column, shown, strict=True):
            drawing.show(axis, each, picture.shape[:2])
        title = numbers.get(step, "") + drawing.covered_frames(frames[step])
        column[0].set_title(title, fontsize=8, pad=3)
    if expected:
        axes[2, 0].set_ylabel("expected", fontsize=8)
    bar = ScalarMappable(Normalize(0, top), drawing.HEAT)
    drawing.colour_bar(bar, axes, NAMES[error], aspect=25)
    _curves(lower.subplots(2, 1, height_ratios=[1.4, 1]), surprise, error, ahead, marked)
    figure.suptitle(_heading(video, surprise, ahead), fontsize=9, x=0.01, ha="left", wrap=True)
    return drawing.literal(figure)


def animate_surprise(
    video: Clip, surprise: Surprise, path: File, error: str = "cosine", ahead: int = 1
) -> None:
    """Write an .mp4 or .gif, as fast as the clip: each frame beside itself with the surprise of its
    step overlaid, above the curves of `surprise_strip`, in which a line marks the frame.
    """
    video = as_video(video)
    film = _film(video, surprise, error, ahead)
    drawing.write_film(film, path, drawing.frame_rate(video))


def _film(video, surprise, error, ahead):
    """The pictures of a film: uint8 (height, width, 3), even sides, at most 1280 wide."""
    frames, heat, top = _heat(surprise, error, ahead)
    width = int(np.clip(360 * video.width / video.height, 300, 640))
    height = round(width * video.height / video.width / 2) * 2
    figure = Figure((2 * width / 100, 3), 100, layout="constrained")
    axes = figure.subplots(2, 1, height_ratios=[1.4, 1])
    _curves(axes, surprise, error, ahead, surprise.moments(error=error, ahead=ahead))
    figure.suptitle(_heading(video, surprise, ahead), fontsize=7, x=0.01, ha="left", wrap=True)
    canvas = FigureCanvasAgg(drawing.literal(figure))
    canvas.draw()
    curves = np.asarray(canvas.buffer_rgba())[..., :3]  # drawn once; only the line moves
    boxes = [axis.get_window_extent() for axis in axes]
    numbers = [(int(n), step) for step, pair in enumerate(frames) for n in np.unique(pair)]
    for number, step in tqdm(numbers, desc="drawing", delay=2, leave=False):
        frame = Image.fromarray(drawing.frames_numbered(video, [number])[0])
        frame = np.asarray(frame.resize((width, height)))
        above = np.concatenate([frame, _laid_over(frame, heat[step], top)], 1)
        picture = Image.fromarray(np.concatenate([above, curves]))
        x = round(axes[0].transData.transform((number, 0))[0])
        for box in boxes:  # matplotlib counts pixels from below
            line = [(x, picture.height - box.ymax), (x, picture.height - box.ymin)]
            ImageDraw.Draw(picture).line(line, "black")
        yield np.asarray(picture)


def _heat(surprise, error, ahead):
    """Frames (steps, 2), errors of the prediction (steps, rows, columns), and the hottest drawn."""
    heat = surprise.errors(error, ahead)["prediction"]
    return surprise.frames[surprise.at(ahead)], heat, max(float(np.nanpercentile(heat, 99.5)), 1e-6)


def _laid_over(frame, heat, top):
    """Heat (rows, columns), black where NaN, over a frame in grey: uint8 (height, width, 3)."""
    hot = drawing.HEAT(np.clip(np.nan_to_num(heat) / top, 0, 1))[..., :3] * 255
    hot = pixels(hot[None], *frame.shape[:2])[0]
    return (OPACITY * hot + (1 - OPACITY) * frame.mean(-1, keepdims=True)).round().astype(np.uint8)


def _curves(axes, surprise, error, ahead, marked):
    """The prediction's error over time, numbered at the moments; below, the baselines'."""
    frames, curves = surprise.frames[surprise.at(ahead)], surprise.over_time(error, ahead)
    (above, below), x, line = axes, frames[:, 0], dict(markersize=4, linewidth=1.3)
    prediction, red = curves["prediction"], COLOURS["prediction"]
    above.plot(x, prediction, ".-", color=red, **line)
    for rank, step in enumerate(marked, 1):
        at = x[step], prediction[step]
        above.plot(*at, "o", color=red, markersize=7, fillstyle="none")
        offset = dict(textcoords="offset points", fontsize=8, ha="center")
        above.annotate(f"({rank})", at, (0, 6), **offset)
    above.margins(y=0.25)
    below.plot(x, prediction, ":", color=red, linewidth=1, label="prediction")
    for name in ("last step", "mean"):
        below.plot(x, curves[name], ".-", color=COLOURS[name], label=name, **line)
    moved, right = surprise.over_time("l1", ahead)["pixels"], below.twinx()
    right.plot(x, moved, "--", color=COLOURS["pixels"], linewidth=1)
    right.set_ylabel("pixels, L1", fontsize=8, color=COLOURS["pixels"])
    above.set_ylabel(f"surprise\n{NAMES[error]}", fontsize=8)
    below.set_ylabel(f"baselines\n{NAMES[error]}", fontsize=8)
    below.set_xlabel("frame", fontsize=8)
    place = dict(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
    below.legend(ncols=3, fontsize=7, frameon=False, **place)
    for axis in (above, below, right):
        axis.set_xlim(x[0], frames[-1, 1])
        axis.tick_params(labelsize=7)
        axis.spines[["top"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    above.tick_params(labelbottom=False)


def _heading(video, surprise, ahead):
    steps = "1 step" if ahead == 1 else f"{ahead} steps"
    name, context = surprise.encoder, surprise.context
    return (
        f"{drawing.clip_caption(video, surprise.frames, name, context, future=True)} · {name} · "
        f"predicted from {context} frames, {steps} ahead · target from {TARGETS[surprise.target]}"
    )
