"""Figures of classifications."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from vjepa_utils import drawing
from vjepa_utils.actions.heads import Classification
from vjepa_utils.video import Clip, as_video


def action_bars(video: Clip, classification: Classification, most: int = 6) -> Figure:
    """Frames that a `Classification` was made from, above bars of its likeliest classes."""
    video = as_video(video)
    used = np.unique(classification.frames)
    numbers = used[drawing.evenly(len(used), most)]
    count = len(classification.labels)
    tall = min(drawing.WIDTH / len(numbers) * video.height / video.width, 3)
    below = 0.3 * count + 0.1
    figure = drawing.new_figure(tall + below)
    rows = figure.add_gridspec(2, 1, height_ratios=[tall, below])
    axes = rows[0].subgridspec(1, len(numbers)).subplots(squeeze=False).flat
    frames = drawing.frames_numbered(video, numbers)
    for axis, number, frame in zip(axes, numbers, frames, strict=True):
        drawing.show(axis, frame)
        axis.set_title(f"frame {number}", fontsize=8, pad=3)
    axis = figure.add_subplot(rows[1])
    places = np.arange(count)[::-1]
    shares = classification.probabilities
    bars = axis.barh(places, shares, 0.7, color=["#c1272d"] + ["#bbbbbb"] * (count - 1))
    axis.bar_label(bars, [f"{share:.1%}" for share in shares], padding=3, fontsize=8)
    names = [textwrap.shorten(name, 60) for name in classification.labels]
    axis.set_yticks(places, names, fontsize=9)
    axis.set(xlim=(0, 1.08), xticks=[])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(left=False)
    segments, views = len(classification.frames), len(classification.logits)
    taken = f"{classification.frames.size} frames"
    taken += f" in {segments} segments" if segments > 1 else ""
    taken += f", {views} views" if views > 1 else ""
    heading = [drawing.clip_caption(video, used), classification.name, taken]
    heading += [classification.remark] if classification.remark else []
    return drawing.with_heading(figure, " · ".join(heading))


def confusion(truth: list[str], predicted: list[str], heading: str) -> Figure:
    """Confusion matrix: how often each true class (row) is predicted as each (column), in per cent.

    Args:
        truth, predicted: lists of class names.
        heading: names the encoder and what was measured.
    """
    classes = list(dict.fromkeys([*truth, *predicted]))  # as they first come
    counts = confusion_matrix(truth, predicted, labels=classes)
    share = 100 * counts / counts.sum(1, keepdims=True).clip(1)
    figure = drawing.new_figure(min(drawing.WIDTH, 1.4 + 0.42 * len(classes)))
    small = min(8, 200 / len(classes))  # points
    axis = figure.subplots()
    heat = drawing.Heat(share[None], 0, 100, "% of the row")
    drawing.heat_maps([axis], heat, colours=colormaps["Reds"])
    for row, column in zip(*np.nonzero(counts), strict=True):
        text, colour = f"{share[row, column]:.0f}", "white" if share[row, column] > 60 else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=small, color=colour)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    sizes = [f"{name} ({n})" for name, n in zip(classes, counts.sum(1), strict=True)]
    axis.set_yticks(range(len(classes)), sizes)
    axis.set(xlabel="predicted", ylabel="true (clips)")
    axis.tick_params(length=0, labelsize=small)
    return drawing.with_heading(figure, heading)
