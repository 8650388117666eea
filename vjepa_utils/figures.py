"""Figures of a clip and its features. Each returns a matplotlib Figure; `save` and `animate` write
files.

A patch is drawn as a patch, frames carry their true numbers, and every figure names its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from tqdm.auto import tqdm

from vjepa_utils import drawing
from vjepa_utils.checks import UserError
from vjepa_utils.colours import PCAColours
from vjepa_utils.drawing import Heat, gallery
from vjepa_utils.features import Features
from vjepa_utils.files import replacing
from vjepa_utils.guided import guided
from vjepa_utils.video import Clip, File, Video, as_video


def frame_strip(video: Clip, most: int = 8) -> Figure:
    """Frames of a clip in their order, with their numbers and times."""
    video = as_video(video)
    shown = video[drawing.evenly(len(video), most)]
    moments = zip(shown.indices, shown.times, strict=True)
    titles = [f"frame {number}, {time:.2f} s" for number, time in moments]
    caption = drawing.clip_caption(video, video.indices)
    heading = f"{caption} · {len(video)} frames of {video.width}×{video.height} pixels"
    return gallery(shown.frames, titles, heading, height=1.7)


def painted(features: Features, colours: PCAColours, where: np.ndarray | None = None) -> np.ndarray:
    """Colours to draw over the picture, (steps, rows, columns, 3): where the stride is smaller than
    the patch in halves of cells, so that every token lies where it should.

    where: shares (steps, rows, columns), 0 to 1; patches of less than a half are grey.
    """
    patches = colours.colours(features)
    if where is not None:
        patches = np.where(np.asarray(where)[..., None] < 0.5, drawing.GREY / 255, patches)
    return features.aligned(patches)


def pair_panel(video: Clip, features: Features, colours: PCAColours, step: int = 0) -> Figure:
    """Frame i, frame j, both blended, and the colours of the pair: what one tubelet step sees."""
    (first, second), patches, heading = _of_step(video, features, colours, step)
    blended = ((first.astype(int) + second) // 2).astype(np.uint8)
    titles = [*(f"frame {int(n)}" for n in features.frames[step]), "both blended", "their features"]
    return gallery([first, second, blended, patches], titles, heading, height=2.5)


def overlay(
    video: Clip, features: Features, colours: PCAColours, step: int = 0, opacity: float = 0.55
) -> Figure:
    """The colours of one step laid over its first frame, opacity 0 to 1."""
    (frame, _), patches, heading = _of_step(video, features, colours, step)
    figure = gallery([frame], [drawing.covered_frames(features.frames[step])], heading, height=4.5)
    drawing.show(figure.axes[0], patches, frame.shape[:2], alpha=opacity)
    return figure


def _of_step(video, features, colours, step):
    """Both frames of a step, its colours, and a heading."""
    steps = len(features.frames)
    if step not in range(-steps, steps):
        raise UserError(f"step must be below {steps}, the number of steps, not {step}.")
    video = drawing.clip_of(video, features.source_size)
    frames = drawing.frames_numbered(video, features.frames[step])
    return frames, painted(features, colours)[step], _heading(video, features, colours)


def _heading(video, features, colours):
    caption = drawing.features_caption(video, features)
    return f"{caption} · {drawing.basis_caption(features, colours)}"


class Guided(NamedTuple):
    """Colours (steps, rows, columns, 3), upsampled where they are drawn, guided by the frames."""

    patches: np.ndarray
    video: Video
    features: Features

    def __getitem__(self, steps):
        frames = drawing.frames_numbered(self.video, self.features.frames[steps, 0])
        maps = torch.from_numpy(self.patches[steps]).movedim(-1, 1)
        fine = [guided(x, frame, self.features) for x, frame in zip(maps, frames, strict=True)]
        return (255 * torch.stack(fine).clamp(0, 1)).byte().movedim(1, -1).numpy()


def pca_strip(
    video: Clip,
    features: Features,
    colours: PCAColours,
    most: int | None = None,
    where: np.ndarray | None = None,
    edges: bool = False,
) -> Figure:
    """Steps of a clip: first frames above the colours of their features, in one basis.

    where: as for `painted`.
    edges: draw the colours upsampled, along the edges of the frame; they hold no more than patches.
    """
    patches, caption = painted(features, colours, where), drawing.basis_caption(features, colours)
    if not edges:
        return compare_strips(video, features, {"features": patches}, most, caption)
    rows = {"features": Guided(patches, as_video(video), features)}
    caption += " · upsampled along the edges of the frame"
    return compare_strips(video, features, rows, most, caption)


def compare_strips(
    video: Clip,
    features: Features,
    rows: Mapping[str, np.ndarray | Heat | Guided],
    most: int | None = None,
    caption: str | None = None,
) -> Figure:
    """Several colourings of the same steps below the first frame of each.

    Args:
        video: the clip that was encoded.
        features: of it.
        rows: {label: colours}, each (steps, rows, columns, 3), from 0 to 1, or a `Heat`.
        most: steps; None takes as many as can be read.
        caption: ends the heading; None names the encoder.
    """
    clip, chosen, frames, titles = drawing.shown_of(video, features, most)
    strips = [(drawing.first_of(features), frames)]
    strips += [(label, each[chosen]) for label, each in rows.items()]
    heading = f"{drawing.features_caption(clip, features)} · {caption or features.encoder}"
    return drawing.picture_rows(strips, titles, heading + drawing.shown_steps(chosen, features))


def changes(features: Features) -> np.ndarray:
    """1 - cosine of each token with that of the step before: float32 (steps - 1, rows, columns)."""
    if len(features.values) < 2:
        raise UserError("Differences over time need at least two steps; encode more frames.")
    steps = pairwise(F.normalize(step, dim=-1) for step in features.values)
    return np.stack([(1 - (now * before).sum(-1)).numpy() for before, now in steps])


def change_strip(video: Clip, features: Features, most: int | None = None) -> Figure:
    """Frames above the change of their features since the step before (`changes`), on one scale."""
    moved = features.aligned(changes(features)[..., None])[..., 0]
    rows = {"change": Heat(moved, 0, max(float(np.percentile(moved, 99)), 1e-6), "1 − cosine")}
    heading = f"{features.encoder} · change of each patch since the step before"
    return compare_strips(video, features[1:], rows, most, heading)


def save(figure: Figure, path: File) -> None:
    """Write a figure, at most 1300 pixels wide; the same figure gives the same file."""
    metadata = {"Software": None} if str(path).lower().endswith(".png") else None
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=drawing.FILE, bbox_inches="tight", metadata=metadata)


def animate(
    video: Clip,
    features: Features,
    colours: PCAColours,
    path: File,
    where: np.ndarray | None = None,
) -> None:
    """Write an .mp4 or .gif with the frames that the features cover beside the colours of their
    step, as fast as the clip; `where` as for `painted`.
    """
    video = drawing.clip_of(video, features.source_size)
    patches = painted(features, colours, where)
    step_of = {int(n): step for step, pair in enumerate(features.frames) for n in pair}
    rows, columns = patches.shape[1:3]
    side = max(2, 2 * round(min(360 / rows, 1920 / columns) / 2))  # of a patch: whole and even

    def pictures():
        for number in tqdm(sorted(step_of), desc="drawing", delay=2, leave=False):
            beside = (255 * patches[step_of[number]]).round().astype(np.uint8)
            beside = beside.repeat(side, 0).repeat(side, 1)
            frame = Image.fromarray(drawing.frames_numbered(video, [number])[0])
            yield np.concatenate([frame.resize(beside.shape[1::-1]), beside], 1)

    heading = _heading(video, features, colours)
    captions = [f"frame {number} · {heading}" for number in sorted(step_of)]
    film = drawing.captioned(pictures(), captions)
    drawing.write_film(film, path, drawing.frame_rate(video))
