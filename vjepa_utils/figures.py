"""Figures of a clip and its features. Each returns a matplotlib Figure; `save` and `animate` write
files.

A patch is drawn as a patch, frames carry their true numbers, and every figure names its checkpoint.
"""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

from vjepa_utils.drawing import (
    basis_caption,
    checked_step,
    clip_name,
    covered_frames,
    evenly,
    frame_rate,
    frames_numbered,
    picture_rows,
    write_film,
)
from vjepa_utils.files import replacing
from vjepa_utils.video import as_video


def frame_strip(video, most=8):
    """Frames of a clip side by side, with their numbers and times."""
    video = as_video(video)
    chosen = evenly(len(video), most)
    titles = [f"frame {video.indices[i]}, {video.times[i]:.2f} s" for i in chosen]
    heading = f"{clip_name(video)}: {len(video)} frames, {video.width}×{video.height}"
    return picture_rows([frames_numbered(video, video.indices[chosen])], [titles], heading)


def pair_panel(video, features, colours, step=0):
    """Frame i, frame j, both blended, and the colours of the pair: what one tubelet step sees.

    Args:
        video: the clip that was encoded.  features: of it.  colours: a fitted `PCAColours`.  step:
            which pair.
    """
    video = as_video(video)
    first, second = frames_numbered(video, features.frames[checked_step(step, features)])
    blended = (first.astype(float) + second) / 2 / 255
    i, j = (int(n) for n in features.frames[step])
    titles = [f"frame {i}", f"frame {j}", "both blended", "their features"]
    heading = f"{clip_name(video)} · {basis_caption(features, colours)}"
    return picture_rows(
        [[first, second, blended, colours.colours(features)[step]]], [titles], heading, height=3.2
    )


def pca_strip(video, features, colours, most=8):
    """Steps of a clip: first frames above the colours of their features, in one basis."""
    return compare_strips(
        video,
        features,
        {"features": colours.colours(features)},
        most,
        basis_caption(features, colours),
    )


def compare_strips(video, features, rows, most=8, about=None):
    """Several colourings of the same steps below their frames.

    Args:
        rows: {label: colours}, each (steps, rows, columns, 3), from 0 to 1.  about: ends the
            heading; None names the encoder.
    """
    video = as_video(video)
    chosen = evenly(len(features.frames), most)
    pictures = [frames_numbered(video, features.frames[chosen, 0])] + [
        painted[chosen] for painted in rows.values()
    ]
    titles = [[f"frame {int(features.frames[s, 0])}" for s in chosen]]
    titles += [[covered_frames(features.frames[s]) for s in chosen]] * len(rows)
    return picture_rows(
        pictures,
        titles,
        f"{clip_name(video)} · {about or features.encoder}",
        labels=["clip", *rows],
    )


def overlay(video, features, colours, step=0, opacity=0.55):
    """The colours of one step laid over its first frame."""
    video = as_video(video)
    frame = frames_numbered(video, features.frames[[checked_step(step, features)], 0])[0]
    heading = f"{clip_name(video)} · {basis_caption(features, colours)}"
    figure = picture_rows([[frame]], [[covered_frames(features.frames[step])]], heading, height=5)
    whole = (-0.5, frame.shape[1] - 0.5, frame.shape[0] - 0.5, -0.5)
    figure.axes[0].imshow(
        colours.colours(features)[step],
        alpha=opacity,
        interpolation="nearest",
        extent=whole,
        aspect="auto",
    )
    return figure


def changes(features):
    """How far each token moves from one step to the next: 1 - cosine similarity, float32 (steps -
    1, rows, columns).
    """
    if len(features.values) < 2:
        raise ValueError("Differences over time need at least two steps; encode more frames.")
    x = torch.nn.functional.normalize(features.values, dim=-1)
    return (1 - (x[1:] * x[:-1]).sum(-1)).numpy()


def change_strip(video, features, most=8):
    """Frames above the change of their features since the step before (`changes`), on one scale."""
    video = as_video(video)
    moved = changes(features)
    chosen = evenly(len(moved), most)
    top = max(float(np.percentile(moved, 99)), 1e-6)
    frames = frames_numbered(video, features.frames[chosen + 1, 0])
    titles = [
        [f"frame {int(features.frames[s + 1, 0])}" for s in chosen],
        [f"steps {s} to {s + 1}" for s in chosen],
    ]
    heading = (
        f"{clip_name(video)} · {features.encoder} · 1 - cosine of successive steps, black "
        f"0, yellow {top:.2f}"
    )
    heat = colormaps["inferno"](np.clip(moved[chosen] / top, 0, 1))[..., :3]
    return picture_rows([frames, heat], titles, heading, labels=["clip", "change"])


def save(figure, path):
    """Write a figure; the file holds no date or version, so the same figure gives the same file."""
    with replacing(path) as temporary:
        figure.savefig(
            temporary, metadata={"Software": None} if str(path).lower().endswith(".png") else None
        )


def animate(video, features, colours, path, rate=None):
    """Write an .mp4 or .gif with the frames that the features cover beside the colours of their
    step.

    Args:
        rate: frames a second; None takes that of the clip's times.
    """
    video = as_video(video)
    write_film(_side_by_side(video, features, colours), path, rate or frame_rate(video))


def _side_by_side(video, features, colours):
    """Each frame beside its colours below a line of text: uint8 (height, width, 3), even sides."""
    step_of = {int(number): step for step, pair in enumerate(features.frames) for number in pair}
    painted = (colours.colours(features) * 255).round().astype(np.uint8)
    rows, columns = features.grid[1:]
    # of a patch as drawn, whole and even: a patch stays a patch
    side = max(2, 2 * round(min(360 / rows, 1920 / columns) / 2))
    size, bar, font = (
        (columns * side, rows * side),
        28,
        ImageFont.truetype(findfont("DejaVu Sans"), 13),
    )
    for number in tqdm(sorted(step_of), desc="drawing", delay=2, leave=False):
        frame = frames_numbered(video, [number])[0]
        picture = Image.new("RGB", (2 * size[0], size[1] + bar), "white")
        picture.paste(Image.fromarray(frame).resize(size), (0, bar))
        picture.paste(
            Image.fromarray(painted[step_of[number]]).resize(size, Image.Resampling.NEAREST),
            (size[0], bar),
        )
        text = f"{clip_name(video)}, frame {number} · {basis_caption(features, colours)}"
        ImageDraw.Draw(picture).text((8, 5), text, "black", font)
        yield np.asarray(picture)
