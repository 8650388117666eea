"""Figures of several encoders on one clip."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vjepa_utils import drawing
from vjepa_utils.colours import PCAColours
from vjepa_utils.comparison.measures import similarity, step_of
from vjepa_utils.features import Features
from vjepa_utils.figures import compare_strips
from vjepa_utils.video import Clip

CORRESPONDS = 0.5  # correlation from which two rows may be compared by a colour


def encoders_strip(video: Clip, features: dict[str, Features], most: int | None = None) -> Figure:
    """What several encoders make of the same pairs of frames: a row for each, in its own basis over
    all its steps.

    The three colours of each encoder are reordered and flipped to correlate best with the first
    encoder's (`PCAColours.match`); the heading gives their share of the variance and these
    correlations (r), and says which colours do not correspond (r below 0.5).

    Args:
        video: the clip that was encoded.
        features: {name: Features} on one grid, as `comparison.on_one_grid` gives them.
        most: steps; None takes as many as can be read.
    """
    base, rows = next(iter(features.values())), {}
    first, caption = PCAColours().fit(base), "{}×{} patches".format(*base.grid[1:])
    caption += " · each in its own basis"
    for name, each in features.items():
        colours = PCAColours().fit(each)
        caption += f" · {name}: {100 * colours.share_of(each):.0f} % of the variance"
        if each is not base:
            colours = colours.match(each, first, base)
            pairs = list(zip(("red", "green", "blue"), colours.matched, strict=True))
            numbers = ", ".join(f"{colour} {r:.2f}" for colour, r in pairs)
            caption += f", r with the first row {numbers}"
            if unlike := [colour for colour, r in pairs if r < CORRESPONDS]:
                caption += f" ({' and '.join(unlike)}: no correspondence)"
        rows[name.split("/")[-1]] = colours.colours(each)
    return compare_strips(video, base, rows, most, caption)


def similarity_strip(
    video: Clip,
    features: dict[str, Features],
    point: tuple[float, float],
    frame: int,
    most: int | None = None,
) -> Figure:
    """Cosine of every token with the one under a point, over the clip, a row for each encoder.

    Each row has its own scale, as encoders differ in how similar all their tokens are: from its
    5th percentile to 1. A small ring marks the most similar token of each other step.

    Args:
        video: the clip that was encoded.
        features: {name: Features} on one grid.
        point: (x, y) in pixels of the clip.
        frame: its file frame number.
        most: steps; None takes as many as can be read.
    """
    base = next(iter(features.values()))
    video = drawing.clip_of(video, base.source_size)
    chosen = drawing.evenly(len(base.frames), drawing.columns(video, most))
    step = step_of(base, frame)
    place = int(np.abs(chosen - step).argmin())
    chosen[place] = step  # in place of its nearest neighbour
    shown = base.frames[chosen, 0].tolist()
    titles = [drawing.covered_frames(base.frames[s]) for s in chosen]
    if shown[place] != frame:
        shown[place], titles[place] = frame, f"frame {frame} of {titles[place]}"
    rows = [(drawing.first_of(base), drawing.frames_numbered(video, shown))]
    for name, each in features.items():
        similar = similarity(each, point, frame)
        low = min(float(np.percentile(similar, 5)), 1 - 1e-6)
        rows.append((name.split("/")[-1], drawing.Heat(similar, low, 1, "cosine")[chosen]))
    heading = (
        f"{drawing.features_caption(video, base)} · {' and '.join(features)} · cosine with the "
        f"token at ({point[0]:.4g}, {point[1]:.4g}) of frame {frame}, each row from its 5th "
        f"percentile · ring: the most similar token{drawing.shown_steps(chosen, base)}"
    )
    figure = drawing.picture_rows(rows, titles, heading)
    _ring(figure.axes[place], point, 9)
    maps = [values for _, heat in rows[1:] for values in heat.values]
    for i, (axis, values) in enumerate(zip(figure.axes[len(titles) :], maps, strict=False)):
        if i % len(titles) != place:
            best = np.unravel_index(values.argmax(), values.shape)
            _ring(axis, base.centre_of(*best), 6)
    return figure


def _ring(axis, point, size):
    """A black ring with a white edge around a point (x, y) of the clip."""
    x, y = (value - 0.5 for value in point)  # pixel centres are whole numbers here
    for colour, width in (("white", 3), ("black", 1.2)):
        axis.plot(x, y, "o", ms=size, mfc="none", mec=colour, mew=width)
