"""What every figure needs: rows of pictures with titles, frames by their numbers, and files."""

import textwrap
from fractions import Fraction

import av
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vjepa_utils.files import replacing


def picture_rows(pictures, titles, heading, height=2.2, labels=None):
    """Rows of pictures of one shape, each with its title; `labels` name the rows."""
    rows, columns = len(pictures), len(pictures[0])
    tall, wide = pictures[0][0].shape[:2]
    height = min(height, 24 / columns * tall / wide)  # at most 24 inches wide
    inset, gap, above = 0.25 if labels else 0.05, 0.08, 0.24  # inches
    width = inset + columns * (height * wide / tall + gap)
    lines = textwrap.wrap(heading, max(20, int(width / 0.077)))
    head = 0.12 + 0.15 * len(lines)
    size = width, head + rows * (height + above)
    figure = Figure(figsize=size, dpi=110)
    for i in range(rows):
        for j in range(columns):
            left, top = (
                inset + j * (height * wide / tall + gap),
                head + i * (height + above) + above,
            )
            box = (
                left / size[0],
                1 - (top + height) / size[1],
                height * wide / tall / size[0],
                height / size[1],
            )
            axis = figure.add_axes(box, xticks=[], yticks=[], frame_on=False)
            # a patch stays a patch; a frame is made smaller smoothly
            enlarged = pictures[i][j].shape[0] < height * figure.dpi
            axis.imshow(
                pictures[i][j],
                interpolation="nearest" if enlarged else "antialiased",
                aspect="auto",
            )
            axis.set_title(titles[i][j], fontsize=8, pad=2)
            if labels and j == 0:
                axis.set_ylabel(labels[i], fontsize=8)
    figure.text(0.05 / size[0], 1 - 0.08 / size[1], "\n".join(lines), fontsize=9, va="top")
    return figure


def evenly(count, most):
    """At most `most` of `count` positions, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def frames_numbered(video, numbers):
    """Frames by their numbers in the file, decoding no others: uint8 (n, H, W, 3)."""
    numbers = np.array([int(n) for n in numbers])
    missing = np.setdiff1d(numbers, video.indices)
    if len(missing):
        raise ValueError(f"The features cover frame {missing[0]}, which this clip does not hold.")
    return video.at(np.searchsorted(video.indices, numbers))


def checked_step(step, features):
    if step not in range(-len(features.frames), len(features.frames)):
        raise ValueError(
            f"step must be below {len(features.frames)}, the number of steps, not {step}."
        )
    return step


def covered_frames(pair):
    first, second = (int(n) for n in pair)
    return f"frame {first}" if first == second else f"frames {first}+{second}"


def clip_name(video):
    return video.path.name if video.path else "clip"


def basis_caption(features, colours):
    share = 100 * colours.explained_variance_ratio[:3].sum()
    rows, columns = features.grid[1:]
    what = "foreground variance" if colours.foreground else "variance"
    return (
        f"{features.encoder} · {rows}×{columns} patches · 3 components hold {share:.0f} % of "
        f"the {what}"
    )


def frame_rate(video):
    """Frames a second by the clip's times."""
    return 1 / np.median(np.diff(video.times)) if len(video) > 1 else 2


def write_film(pictures, path, rate):
    """Pictures uint8 (height, width, 3) of one size with even sides to an .mp4 or .gif."""
    with replacing(path) as temporary:
        if str(path).lower().endswith(".gif"):
            first, *rest = (Image.fromarray(picture) for picture in pictures)
            first.save(temporary, save_all=True, append_images=rest, duration=1000 / rate, loop=0)
            return
        with av.open(str(temporary), "w") as container:
            stream = container.add_stream(
                "h264", rate=Fraction(float(rate)).limit_denominator(1001)
            )
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "threads": "1"}
            for picture in pictures:
                if not stream.codec_context.is_open:
                    stream.height, stream.width = picture.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode())
