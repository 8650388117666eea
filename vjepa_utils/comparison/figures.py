"""Figures of several encoders on one clip."""

import numpy as np
from matplotlib import colormaps

from vjepa_utils.colours import PCAColours
from vjepa_utils.comparison.one_grid import similarity, step_of
from vjepa_utils.drawing import clip_name, covered_frames, evenly, frames_numbered, picture_rows
from vjepa_utils.figures import compare_strips
from vjepa_utils.video import as_video


def encoders_strip(video, features, most=6):
    """What several encoders make of the same pairs of frames: a row for each, in its own basis over
    all its steps.

    The three colours of each encoder are put into the order and sign that follow the first
    encoder's best (`PCAColours.match`); the heading says how much of the variance they hold, and
    how well they follow (r).

    Args:
        features: {name: Features} on one grid, as `comparison.on_one_grid` gives them.
    """
    first, rows, about = None, {}, []
    for name, each in features.items():
        colours = PCAColours().fit(each)
        share = f"{name}: {100 * colours.explained_variance_ratio[:3].sum():.0f} % of the variance"
        if first is None:
            first = colours, each
        else:
            colours = colours.match(each, *first)
            share += f", r {' '.join(f'{r:.2f}' for r in colours.matched)}"
        rows[name.split("/")[-1]] = colours.colours(each)
        about.append(share)
    grid = "{}×{} patches".format(*first[1].grid[1:])
    return compare_strips(
        video, first[1], rows, most, " · ".join([grid, "each in its own basis", *about])
    )


def similarity_strip(video, features, point, frame, most=6):
    """Cosine of every token with the one under a point, over the clip, a row for each encoder.

    Each row has its own scale, as encoders differ in how alike all their tokens are: black is its
    5th percentile, yellow 1.

    Args:
        features: {name: Features} on one grid.  point: (x, y) in pixels of the clip.  frame: its
            file frame number.
    """
    video, base = as_video(video), next(iter(features.values()))
    asked, rows, about = step_of(base, frame), {}, []
    chosen = np.union1d(evenly(len(base.frames), most), asked)
    if len(chosen) > most:  # in place of its nearest neighbour
        others = chosen[chosen != asked]
        chosen = np.setdiff1d(chosen, others[np.abs(others - asked).argmin()])
    for name, each in features.items():
        alike = similarity(each, point, frame)
        low = float(np.percentile(alike, 5))
        rows[name.split("/")[-1]] = colormaps["inferno"](
            np.clip((alike - low) / max(1 - low, 1e-6), 0, 1)
        )[chosen, ..., :3]
        about.append(f"{name} {low:.2f}")
    shown = [frame if s == asked else int(base.frames[s, 0]) for s in chosen]
    titles = [[f"frame {n}" for n in shown]] + [
        [covered_frames(base.frames[s]) for s in chosen]
    ] * len(rows)
    asked_for = f"cosine with the token at ({point[0]:.4g}, {point[1]:.4g}) of frame {frame}"
    heading = f"{clip_name(video)} · {asked_for}, yellow 1, black: {', '.join(about)}"
    figure = picture_rows(
        [frames_numbered(video, shown), *rows.values()], titles, heading, labels=["clip", *rows]
    )
    mark = figure.axes[int(np.flatnonzero(chosen == asked)[0])]
    mark.plot(
        point[0] - 0.5,
        point[1] - 0.5,
        "o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor="white",
        markeredgewidth=3,
    )
    mark.plot(
        point[0] - 0.5,
        point[1] - 0.5,
        "o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor="black",
        markeredgewidth=1.2,
    )
    return figure
