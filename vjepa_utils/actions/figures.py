"""Figures of classifications."""

import textwrap

import numpy as np
from matplotlib.figure import Figure

from vjepa_utils.drawing import clip_name, evenly, frames_numbered
from vjepa_utils.video import as_video


def action_bars(video, found, most=6):
    """Frames that a `Classification` was made from, above bars of its likeliest classes."""
    video = as_video(video)
    numbers = np.unique(found.frames)
    numbers = numbers[evenly(len(numbers), most)]
    aspect, count = video.height / video.width, len(found.labels)
    width, below = 9.5, 0.34 + 0.27 * count  # inches
    tall = min(width / len(numbers) * aspect, 3.2)
    lines = textwrap.wrap(
        " · ".join(filter(None, [clip_name(video), found.name, _used(found), found.remark])), 130
    )
    figure = Figure(
        figsize=(width, tall + below + 0.55 + 0.17 * len(lines)), dpi=110, layout="constrained"
    )
    rows = figure.add_gridspec(2, 1, height_ratios=[tall, below])
    axes = rows[0].subgridspec(1, len(numbers)).subplots(squeeze=False).flat
    for axis, number, frame in zip(axes, numbers, frames_numbered(video, numbers), strict=True):
        axis.imshow(frame)
        axis.set_axis_off()
        axis.set_title(f"frame {number}", fontsize=8, pad=2)
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
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left")
    return figure


def _used(found):
    segments, views = len(found.frames), len(found.logits)
    return (
        f"{found.frames.size} frames"
        + f" in {segments} segments" * (segments > 1)
        + f", {views} views" * (views > 1)
    )


def confusion(truth, predicted, heading):
    """How often each class (a row) was taken for each other (a column), in per cent of the row.

    Args:
        truth, predicted: lists of class names.  heading: names the encoder and what was measured.
    """
    classes = list(dict.fromkeys([*truth, *predicted]))  # as they first come
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(
        counts, tuple([classes.index(name) for name in names] for names in (truth, predicted)), 1
    )
    share = counts / counts.sum(1, keepdims=True).clip(1)
    side = 1.9 + 0.42 * len(classes)
    figure = Figure(figsize=(side + 0.4, side), dpi=110, layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Reds", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[row, column] > 0.6 else "black"
        axis.text(
            column,
            row,
            f"{100 * share[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color=colour,
        )
    axis.set_xticks(
        range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8
    )
    axis.set_yticks(
        range(len(classes)),
        [f"{name} ({n})" for name, n in zip(classes, counts.sum(1), strict=True)],
        fontsize=8,
    )
    axis.set(xlabel="predicted", ylabel="true (clips)")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.suptitle(
        "\n".join(textwrap.wrap(heading, int(side / 0.075))), fontsize=9, x=0.01, ha="left"
    )
    return figure
