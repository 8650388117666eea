"""Figures of classifications."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps

from vjepa_utils.drawing import (
    WIDTH,
    Heat,
    clip_name,
    evenly,
    frames_numbered,
    heat_maps,
    new_figure,
    show,
    with_heading,
)
from vjepa_utils.video import as_video

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vjepa_utils.actions.heads import Classification
    from vjepa_utils.annotations import Clip


def action_bars(video: Clip, found: Classification, most: int = 6) -> Figure:
    """Frames that a `Classification` was made from, above bars of its likeliest classes."""
    video = as_video(video)
    numbers = np.unique(found.frames)
    numbers = numbers[evenly(len(numbers), most)]
    count = len(found.labels)
    tall, below = min(WIDTH / len(numbers) * video.height / video.width, 3), 0.3 * count + 0.1
    figure = new_figure(tall + below)
    rows = figure.add_gridspec(2, 1, height_ratios=[tall, below])
    axes = rows[0].subgridspec(1, len(numbers)).subplots(squeeze=False).flat
    for axis, number, frame in zip(axes, numbers, frames_numbered(video, numbers), strict=True):
        show(axis, frame)
        axis.set_title(f"frame {number}", fontsize=8, pad=3)
    axis = figure.add_subplot(rows[1])
    places = np.arange(count)[::-1]
    bars = axis.barh(
        places, found.probabilities, 0.7, color=["#c1272d", *["#bbbbbb"] * (count - 1)]
    )
    axis.bar_label(bars, [f"{share:.1%}" for share in found.probabilities], padding=3, fontsize=8)
    axis.set_yticks(places, [textwrap.shorten(name, 60) for name in found.labels], fontsize=9)
    axis.set(xlim=(0, 1.08), xticks=[])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(left=False)
    about = filter(None, [clip_name(video), found.name, _used(found), found.remark])
    return with_heading(figure, " · ".join(about))


def _used(found):
    segments, views = len(found.frames), len(found.logits)
    return (
        f"{found.frames.size} frames"
        + f" in {segments} segments" * (segments > 1)
        + f", {views} views" * (views > 1)
    )


def confusion(truth: list[str], predicted: list[str], heading: str) -> Figure:
    """Confusion matrix: how often each true class (row) is predicted as each (column), in per cent.

    Args:
        truth, predicted: lists of class names.  heading: names the encoder and what was measured.
    """
    classes = list(dict.fromkeys([*truth, *predicted]))  # as they first come
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(
        counts, tuple([classes.index(name) for name in names] for names in (truth, predicted)), 1
    )
    share = 100 * counts / counts.sum(1, keepdims=True).clip(1)
    figure = new_figure(min(WIDTH, 1.4 + 0.42 * len(classes)))
    small = min(8, 200 / len(classes))  # points
    axis = figure.subplots()
    heat_maps([axis], Heat(share[None], 0, 100, "% of the row"), colours=colormaps["Reds"])
    for row, column in zip(*np.nonzero(counts), strict=True):
        text, colour = f"{share[row, column]:.0f}", "white" if share[row, column] > 60 else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=small, color=colour)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    sizes = [f"{name} ({n})" for name, n in zip(classes, counts.sum(1), strict=True)]
    axis.set_yticks(range(len(classes)), sizes)
    axis.set(xlabel="predicted", ylabel="true (clips)")
    axis.tick_params(length=0, labelsize=small)
    return with_heading(figure, heading)
