"""What every figure needs: rows of pictures under their titles, heat maps, films and files."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from PIL import Image, ImageDraw, ImageFont

from vjepa_utils.checks import UserError
from vjepa_utils.colours import PCAColours
from vjepa_utils.features import Features
from vjepa_utils.files import replacing
from vjepa_utils.video import Clip, File, Video, as_video
from vjepa_utils.weights.regime import departures

WIDTH = 9.6  # inches, at most: 960 pixels in a notebook, 1248 in a file
NARROW = 3  # inches, at least: a heading in few lines
SCREEN, FILE = 100, 130  # dots per inch
GREY = 205  # of 255: where a heat map has no value, and what is hidden in a frame
HEAT = colormaps["inferno"].with_extremes(bad=[GREY / 255] * 3)


class Heat(NamedTuple):
    """Values to draw as heat maps beside a colour bar: black `low`, yellow `high`, grey NaN.

    values: float (pictures, rows, columns).  name: of the quantity, written at the bar.
    """

    values: np.ndarray
    low: float
    high: float
    name: str

    def __getitem__(self, chosen):
        """The heat maps of some pictures, on the same scale."""
        return self._replace(values=self.values[chosen])


def new_figure(height: float) -> Figure:
    """An empty figure of full width, laid out without overlaps."""
    return Figure(figsize=(WIDTH, height), dpi=SCREEN, layout="compressed")


def picture_rows(
    rows: Sequence[tuple[str, np.ndarray | Heat]],
    titles: list[str],
    heading: str,
    height: float = 2.2,
) -> Figure:
    """Rows of pictures under the titles of their columns; all take the shape of the first row's.

    Args:
        rows: [(label, pictures)], each a picture for every title: frames uint8 (n, height, width,
            3), patches float (n, rows, columns, 3) from 0 to 1, or a `Heat`.
        titles: of the columns.
        heading: of the figure.
        height: of a picture in inches, at most; all shrink where the width runs out.
    """
    size = rows[0][1][0].shape[:2]
    figure = new_figure(len(rows) * height + 0.5)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, (label, pictures) in zip(axes, rows, strict=True):
        if isinstance(pictures, Heat):
            heat_maps(line, pictures, size)
        else:
            for axis, picture in zip(line, pictures, strict=True):
                show(axis, picture, size)
        line[0].set_ylabel(label, fontsize=8)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8, pad=3)
    return with_heading(figure, heading)


def gallery(
    pictures: Sequence | np.ndarray, titles: list[str], heading: str, height: float = 2.2
) -> Figure:
    """Pictures in reading order, each under its title, all in the shape of the first, over as many
    rows as it takes to draw them about `height` inches high."""
    size = pictures[0].shape[:2]
    rows = math.ceil(len(pictures) / max(1, round(WIDTH / (height * size[1] / size[0]))))
    beside = math.ceil(len(pictures) / rows)  # 6 pictures in two rows: 3 in each, not 4 and 2
    figure = new_figure(rows * height + 0.5)
    axes = figure.subplots(rows, beside, squeeze=False).flat
    for axis in axes[len(pictures) :]:
        axis.set_axis_off()
    for axis, picture, title in zip(axes, pictures, titles, strict=False):
        show(axis, picture, size)
        axis.set_title(title, fontsize=8, pad=3)
    return with_heading(figure, heading)


def show(axis, picture, size=None, **options):
    """A picture without ticks, over the place of one of `size` (height, width), by default its own:
    a patch stays a patch, a frame is made smaller smoothly."""
    height, width = size or picture.shape[:2]
    place = (-0.5, width - 0.5, height - 0.5, -0.5)
    smooth = "antialiased" if picture.dtype == np.uint8 else "nearest"
    axis.set(xticks=[], yticks=[], frame_on=False)
    return axis.imshow(picture, interpolation=smooth, extent=place, **options)


def heat_maps(axes, heat, size=None, colours=HEAT):
    """A `Heat` on axes side by side, and one colour bar; its ends are pointed where values lie
    beyond them."""
    scale = {"vmin": heat.low, "vmax": heat.high, "cmap": colours}
    for axis, values in zip(axes, heat.values, strict=True):
        image = show(axis, np.asarray(values, float), size, **scale)
    beyond = (heat.values < heat.low).any(), (heat.values > heat.high).any()
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[beyond]
    colour_bar(image, axes, heat.name, extend=extend, aspect=15)


def colour_bar(image, axes, name, **shape):
    """The scale of an image beside its axes: its two ends, and the name of the quantity."""
    bar, ends = (
        np.ravel(axes)[0].figure.colorbar(image, ax=axes, pad=0.01, **shape),
        image.get_clim(),
    )
    digits = lambda end: f"{end:.2g}" if abs(end) < 1 else f"{end:.3g}"
    bar.set_ticks(ends, labels=[digits(end).replace("-", "−") for end in ends])
    bar.ax.tick_params(labelsize=8, length=2)
    bar.set_label(name, fontsize=8)
    bar.outline.set_visible(False)


def with_heading(figure: Figure, heading: str) -> Figure:
    """The figure cropped to what is drawn, under a heading of the same width."""
    literal(figure).draw_without_rendering()
    width, height = figure.get_tightbbox().size
    width = max(width + 0.1, NARROW)
    figure.set_size_inches(width, height)
    text = figure.suptitle(heading, fontsize=9, x=0.05 / width, ha="left", wrap=True)
    literal(figure)
    figure.set_size_inches(width, height + text.get_window_extent().height / SCREEN + 0.15)
    return figure


def literal(figure: Figure) -> Figure:
    """The figure with its texts drawn as they are: a name may hold $, or signs that no font has."""
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    for text in figure.findobj(Text):
        words = "".join(c if ord(c) in known or c == "\n" else "\ufffd" for c in text.get_text())
        text.set_text(re.sub(r"(?<!\\)\$", r"\\$", words))
    return figure


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` positions, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def columns(video: Video, most: int | None) -> int:
    """How many pictures of a clip to draw side by side: `most`, or as many as can be read."""
    return most or max(1, int(WIDTH / max(1.1, 1.25 * video.width / video.height)))


def clip_of(video: Clip, size: tuple[int, int]) -> Video:
    """A clip to draw; UserError unless its (height, width) is that of the clip that was encoded."""
    video = as_video(video)
    if (video.height, video.width) != tuple(size):
        raise UserError(
            f"This clip has {video.width}×{video.height} pixels, and the one that was encoded "
            f"{size[1]}×{size[0]}: draw the frames of that one."
        )
    return video


def frames_numbered(video: Video, numbers: Iterable[int]) -> np.ndarray:
    """Frames by their numbers in the file, decoding no others: uint8 (n, H, W, 3)."""
    return video[video.positions([int(n) for n in numbers])].frames


def shown_of(video: Clip, features: Features, most: int | None) -> tuple:
    """What a strip shows: the `Video`, the positions of steps, the first frame and title of each.

    most: steps; None takes as many as can be read.
    """
    video = clip_of(video, features.source_size)
    chosen = evenly(len(features.frames), columns(video, most))
    titles = [covered_frames(features.frames[step]) for step in chosen]
    return video, chosen, frames_numbered(video, features.frames[chosen, 0]), titles


def veiled(frames: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Frames uint8 (n, H, W, 3), pale where bool (n, H, W) is True."""
    pale = (0.85 * GREY + 0.15 * frames.mean(-1, keepdims=True)).astype(np.uint8)
    return np.where(hidden[..., None], pale, frames)


def covered_frames(pair):
    first, second = (int(n) for n in pair)
    return f"frame {first}" if first == second else f"frames {first}+{second}"


def first_of(features):
    """The label of a row that shows the first frame of each step."""
    return "first frame" if (features.frames[:, 0] != features.frames[:, 1]).any() else "frame"


def shown_steps(chosen, features):
    """The end of a heading where not all steps are drawn."""
    steps = len(features.frames)
    return "" if len(chosen) == steps else f" · {len(chosen)} of {steps} steps"


def clip_caption(
    video: Video,
    numbers: np.ndarray | torch.Tensor,
    encoder: str = "",
    context: int | None = None,
    future: bool = False,
) -> str:
    """Name of a clip, the rate of its frames of these numbers, if it has a clock, and where that,
    the frames encoded jointly or a hidden future depart from the encoder's training.
    """
    shown, words, rate = video[video.positions(np.unique(numbers))], [video.name], None
    if not video.no_clock and len(shown) > 1:
        rate = frame_rate(shown)
        words.append(f"frames at {rate:.3g} a second")
    return " · ".join(words + departures(encoder, context, rate, future))


def features_caption(video: Video, features: Features, future: bool = False) -> str:
    """`clip_caption` of the frames that are encoded."""
    return clip_caption(video, features.frames, features.encoder, features.context, future)


def basis_caption(features: Features, colours: PCAColours) -> str:
    """Encoder, grid, and the share of the variance of these very features that is in colour."""
    rows, columns = features.grid[1:]
    kind = "foreground variance" if colours.foreground else "variance"
    removed = "" if colours.place is None else f" beside that of {colours.removed}"
    return (
        f"{features.encoder} · {rows}×{columns} patches · 3 components hold "
        f"{100 * colours.share_of(features):.0f} % of the {kind}{removed}"
    )


def frame_rate(video: Video) -> float:
    """Frames a second by the clip's times."""
    return (len(video) - 1) / (video.times[-1] - video.times[0]) if len(video) > 1 else 2


def write_film(pictures: Iterable[np.ndarray], path: File, rate: float) -> None:
    """Pictures uint8 (height, width, 3) of one size with even sides to an .mp4 or .gif."""
    with replacing(path) as temporary:
        if str(path).lower().endswith(".gif"):
            first, *rest = (Image.fromarray(picture) for picture in pictures)
            first.save(temporary, save_all=True, append_images=rest, duration=1000 / rate, loop=0)
            return
        with av.open(f"file:{temporary}", "w") as container:
            stream = container.add_stream(
                "h264", rate=Fraction(float(rate)).limit_denominator(1001)
            )
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "threads": "1"}
            for picture in pictures:
                if not stream.codec_context.is_open:
                    stream.height, stream.width = picture.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode())


def captioned(pictures, captions):
    """Pictures uint8 (height, width, 3) of one size below lines of text, about as wide as a picture
    and the same room for all; even sides.
    """
    font, bar = ImageFont.truetype(findfont("DejaVu Sans"), 13), None  # 8 pixels a letter
    for picture, caption in zip(pictures, captions, strict=True):
        height, width = (side // 2 * 2 for side in picture.shape[:2])
        lines = textwrap.wrap(caption, max(1, width // 8 - 2))
        # room for one line more than the first caption has, if that was broken
        bar = bar or 12 + 16 * (len(lines) + (len(lines) > 1))
        canvas = Image.new("RGB", (width, height + bar), "white")
        canvas.paste(Image.fromarray(picture[:height, :width]), (0, bar))
        ImageDraw.Draw(canvas).multiline_text((8, 5), "\n".join(lines), "black", font, spacing=2)
        yield np.asarray(canvas)
