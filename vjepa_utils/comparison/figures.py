"""Figures of several encoders on one clip."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vjepa_utils import drawing
from vjepa_utils.colours import PCAColours
from vjepa_utils.comparison.one_grid import similarity, step_of
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
    base, first, rows, shares = next(iter(features.values())), None, {}, []
    for name, each in features.items():
        colours = PCAColours().fit(each)
        share = f"{name}: {100 * colours.share_of(each):.0f} % of the variance"
        if first is None:
            first = colours
        else:
            colours = colours.match(each, first, base)
            pairs = list(zip(("red", "green", "blue"), colours.matched, strict=True))
            share += f", r with the first row {', '.join(f'{name} {r:.2f}' for name, r in pairs)}"
            if unlike := [name for name, r in pairs if r < CORRESPONDS]:
                share += f" ({' and '.join(unlike)}: no correspondence)"
        rows[name.split("/")[-1]] = colours.colours(each)
        shares.append(share)
    caption = ["{}×{} patches".format(*base.grid[1:]), "each in its own basis", *shares]
    return compare_strips(video, base, rows, most, " · ".join(caption))


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
    step, most = step_of(base, frame), drawing.columns(video, most)
    chosen = np.union1d(drawing.evenly(len(base.frames), most), step)
    if len(chosen) > most:  # in place of its nearest neighbour
        others = chosen[chosen != step]
        chosen = np.setdiff1d(chosen, others[np.abs(others - step).argmin()])
    place = int(np.flatnonzero(chosen == step)[0])
    shown = base.frames[chosen, 0].tolist()
    titles = [drawing.covered_frames(base.frames[s]) for s in chosen]
    if shown[place] != frame:
        shown[place], titles[place] = frame, f"frame {frame} of {titles[place]}"
    rows = [(drawing.first_of(base), drawing.frames_numbered(video, shown))]
    best = []  # for each encoder the index of the most similar token, for each step shown
    for name, each in features.items():
        similar = similarity(each, point, frame)
        low = min(float(np.percentile(similar, 5)), 1 - 1e-6)
        rows.append((name.split("/")[-1], drawing.Heat(similar, low, 1, "cosine")[chosen]))
        best.append(similar[chosen].reshape(len(chosen), -1).argmax(1))
    heading = (
        f"{drawing.clip_caption(video, base.frames)} · {' and '.join(features)} · cosine with the "
        f"token at ({point[0]:.4g}, {point[1]:.4g}) of frame {frame}, each row from its 5th "
        f"percentile · ring: the most similar token{drawing.shown_steps(chosen, base)}"
    )
    figure = drawing.picture_rows(rows, titles, heading)
    _ring(figure.axes[place], point, 9)
    axes = figure.axes[len(titles) :]
    for row, tokens in enumerate(best):
        for column, token in enumerate(tokens):
            if column != place:
                centre = base.centre_of(*divmod(int(token), base.grid[2]))
                _ring(axes[row * len(titles) + column], centre, 6)
    return figure


def _ring(axis, point, size):
    """A black ring with a white edge around a point (x, y) of the clip."""
    x, y = (value - 0.5 for value in point)  # pixel centres are whole numbers here
    for colour, width in (("white", 3), ("black", 1.2)):
        ring = {"markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": width}
        axis.plot(x, y, "o", markersize=size, **ring)
