"""Figures of a clip and its features. Each returns a matplotlib Figure; `save` and `animate` write
files.

A patch is drawn as a patch, frames carry their true numbers, and every figure names its checkpoint.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError
from vjepa_utils.colours import PCAColours
from vjepa_utils.drawing import (
    FILE,
    GREY,
    Heat,
    basis_caption,
    captioned,
    checked_step,
    clip_caption,
    clip_of,
    columns,
    covered_frames,
    evenly,
    first_of,
    frame_rate,
    frames_numbered,
    gallery,
    picture_rows,
    show,
    shown_steps,
    write_film,
)
from vjepa_utils.features import Features
from vjepa_utils.files import replacing
from vjepa_utils.predict.masks import pixels
from vjepa_utils.video import Clip, File, as_video


def frame_strip(video: Clip, most: int = 8) -> Figure:
    """Frames of a clip in their order, with their numbers and times."""
    video = as_video(video)
    chosen = evenly(len(video), most)
    titles = [f"frame {video.indices[i]}, {video.times[i]:.2f} s" for i in chosen]
    caption = clip_caption(video, video.indices)
    heading = f"{caption} · {len(video)} frames of {video.width}×{video.height} pixels"
    return gallery(frames_numbered(video, video.indices[chosen]), titles, heading, height=1.7)


def painted(features: Features, colours: PCAColours, where: np.ndarray | None = None) -> np.ndarray:
    """Colours to draw over the picture, (steps, rows, columns, 3): where the stride is smaller than
    the patch in halves of cells, so that every token lies where it should.

    where: shares (steps, rows, columns), 0 to 1; patches of less than a half are grey.
    """
    patches = colours.colours(features)
    if where is not None:
        patches = np.where(np.asarray(where)[..., None] < 0.5, GREY / 255, patches)
    return features.aligned(patches)


def pair_panel(video: Clip, features: Features, colours: PCAColours, step: int = 0) -> Figure:
    """Frame i, frame j, both blended, and the colours of the pair: what one tubelet step sees.

    Args:
        video: the clip that was encoded.
        features: of it.
        colours: a fitted `PCAColours`.
        step: which pair.
    """
    video = clip_of(video, features.source_size)
    first, second = frames_numbered(video, features.frames[checked_step(step, features)])
    blended = ((first.astype(int) + second) // 2).astype(np.uint8)
    i, j = (int(n) for n in features.frames[step])
    titles = [f"frame {i}", f"frame {j}", "both blended", "their features"]
    heading = f"{clip_caption(video, features.frames)} · {basis_caption(features, colours)}"
    pictures = [first, second, blended, painted(features, colours)[step]]
    return gallery(pictures, titles, heading, height=2.5)


def pca_strip(
    video: Clip,
    features: Features,
    colours: PCAColours,
    most: int | None = None,
    where: np.ndarray | None = None,
) -> Figure:
    """Steps of a clip: first frames above the colours of their features, in one basis; `where` as
    for `painted`.
    """
    rows = {"features": painted(features, colours, where)}
    return compare_strips(video, features, rows, most, basis_caption(features, colours))


def compare_strips(
    video: Clip,
    features: Features,
    rows: dict[str, np.ndarray],
    most: int | None = None,
    about: str | None = None,
) -> Figure:
    """Several colourings of the same steps below the first frame of each.

    Args:
        video: the clip that was encoded.
        features: of it.
        rows: {label: colours}, each (steps, rows, columns, 3), from 0 to 1, or a `Heat`.
        most: steps; None takes as many as can be read.
        about: ends the heading; None names the encoder.
    """
    video = clip_of(video, features.source_size)
    chosen = evenly(len(features.frames), columns(video, most))
    strips = [(first_of(features), frames_numbered(video, features.frames[chosen, 0]))]
    strips += [(label, each[chosen]) for label, each in rows.items()]
    titles = [covered_frames(features.frames[s]) for s in chosen]
    heading = f"{clip_caption(video, features.frames)} · {about or features.encoder}"
    heading += shown_steps(chosen, features)
    return picture_rows(strips, titles, heading)


def overlay(
    video: Clip, features: Features, colours: PCAColours, step: int = 0, opacity: float = 0.55
) -> Figure:
    """The colours of one step laid over its first frame, opacity 0 to 1."""
    video = clip_of(video, features.source_size)
    frame = frames_numbered(video, features.frames[[checked_step(step, features)], 0])[0]
    heading = f"{clip_caption(video, features.frames)} · {basis_caption(features, colours)}"
    figure = gallery([frame], [covered_frames(features.frames[step])], heading, height=4.5)
    patches = painted(features, colours)[step]
    show(figure.axes[0], patches, frame.shape[:2], alpha=opacity)
    return figure


def changes(features: Features) -> np.ndarray:
    """1 - cosine of each token with that of the step before: float32 (steps - 1, rows, columns)."""
    if len(features.values) < 2:
        raise UserError("Differences over time need at least two steps; encode more frames.")
    steps = pairwise(torch.nn.functional.normalize(step, dim=-1) for step in features.values)
    return np.stack([(1 - (now * before).sum(-1)).numpy() for before, now in steps])


def change_strip(video: Clip, features: Features, most: int | None = None) -> Figure:
    """Frames above the change of their features since the step before (`changes`), on one scale."""
    moved = changes(features)
    top = max(float(np.percentile(moved, 99)), 1e-6)
    since, drawn = features[1:], features.aligned(moved[..., None])[..., 0]
    heading = f"{features.encoder} · change of each patch since the step before"
    return compare_strips(
        video, since, {"change": Heat(drawn, 0, top, "1 − cosine")}, most, heading
    )


def save(figure: Figure, path: File) -> None:
    """Write a figure, at most 1300 pixels wide; the file holds no date or version, so the same
    figure gives the same file.
    """
    png = str(path).lower().endswith(".png")
    with replacing(path) as temporary:
        figure.savefig(
            temporary, dpi=FILE, bbox_inches="tight", metadata={"Software": None} if png else None
        )


def animate(
    video: Clip,
    features: Features,
    colours: PCAColours,
    path: File,
    rate: float | None = None,
    where: np.ndarray | None = None,
) -> None:
    """Write an .mp4 or .gif with the frames that the features cover beside the colours of their
    step, `rate` frames a second; None takes that of the clip's times; `where` as for `painted`.
    """
    video = clip_of(video, features.source_size)
    step_of = {int(number): step for step, pair in enumerate(features.frames) for number in pair}
    numbers = sorted(step_of)
    caption = f"{clip_caption(video, features.frames)} · {basis_caption(features, colours)}"
    captions = [f"frame {number} · {caption}" for number in numbers]
    pictures = _side_by_side(
        video, [(n, step_of[n]) for n in numbers], painted(features, colours, where)
    )
    write_film(captioned(pictures, captions), path, rate or frame_rate(video))


def _side_by_side(video, shown, patches_of):
    """Frames beside the colours of their step, [(frame, step)]: uint8 (height, width, 3)."""
    rows, columns = patches_of.shape[1:3]
    # of a patch as drawn, whole and even: a patch stays a patch
    side = max(2, 2 * round(min(360 / rows, 1920 / columns) / 2))
    for number, step in tqdm(shown, desc="drawing", delay=2, leave=False):
        frame = Image.fromarray(frames_numbered(video, [number])[0])
        patches = pixels(patches_of[step : step + 1] * 255, rows * side, columns * side)[0]
        frame = frame.resize((columns * side, rows * side))
        yield np.concatenate([frame, patches.round().astype(np.uint8)], 1)
