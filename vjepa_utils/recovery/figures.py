"""Figures of what the predictor recovers."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vjepa_utils import drawing
from vjepa_utils.colours import PCAColours
from vjepa_utils.predict.masks import pixels
from vjepa_utils.predict.recovery import Recovery
from vjepa_utils.video import Clip
from vjepa_utils.weights.regime import departures

CURVES = {
    "prediction": ("#c1272d", "o-"),
    "mean": ("#777777", "s--"),
    "nearest": ("#0071a7", "^--"),
    "same place": ("#3a8a3a", "v--"),
}


def recovery_strip(
    video: Clip,
    recovery: Recovery | dict[str, Recovery],
    most: int | None = None,
    decoded: dict | None = None,
) -> Figure:
    """Hidden region, features of the whole clip, those of the visible tokens with the prediction
    filled in, and its cosine; all colours in one basis, that of the whole clip.

    Args:
        video: the clip that was encoded.
        recovery: what `Encoder.recover` gave, a `Recovery` or {name of the mask: Recovery}.
        most: steps; None takes as many as can be read.
        decoded: {name of the mask: {label: frames uint8 (2 · steps, height, width, 3)}}, rows to
            add, such as those of `decoding.recovered`.
    """
    recoveries = recovery if isinstance(recovery, dict) else {"hidden": recovery}
    whole = next(iter(recoveries.values())).whole
    video, chosen, frames, titles = drawing.shown_of(video, whole, most)
    colours, rows = PCAColours().fit(whole), []
    future = any(each.hidden[-1].all() for each in recoveries.values())
    captions = [drawing.features_caption(video, whole, future)]
    captions.append(drawing.basis_caption(whole, colours))
    for name, each in recoveries.items():
        hidden = pixels(each.hidden[chosen], video.height, video.width)
        share = f"{name} {100 * each.hidden.mean():.0f} %"
        rows.append((share, drawing.veiled(frames, hidden)))
        if len(rows) == 1:
            rows.append(("whole clip", colours.colours(whole)[chosen]))
        rows.append(("filled in", colours.colours(each.filled)[chosen]))
        cosines = drawing.Heat(each.on_grid(each.cosine), 0, 1, "cosine")[chosen]
        rows.append(("cosine of prediction\nwith whole clip", cosines))
        for label, pictures in (decoded or {}).get(name, {}).items():
            rows.append((label, pictures[2 * chosen]))
        predicted, *baselines = (
            f"{source} {mean:.2f}" for source, mean in each.means().items() if mean == mean
        )
        captions.append(f"{share}: mean cosine of {predicted}, baselines {', '.join(baselines)}")
    heading = " · ".join(captions) + drawing.shown_steps(chosen, whole)
    return drawing.picture_rows(rows, titles, heading, 2.2 if len(recoveries) == 1 else 1.6)


def recovery_curves(recoveries: list[dict], caption: str) -> Figure:
    """Mean cosine against how much is hidden and how far ahead; bars show the standard deviation
    over the list.

    Args:
        recoveries: for each seed or clip {share: Recovery, …, "future": Recovery of a
            `masks.future`}.
        caption: what they are, for the heading.
    """
    futures = [each["future"] for each in recoveries]
    steps = np.arange(len(futures[0].hidden))[:, None, None]
    last = int(steps[~futures[0].hidden.any((1, 2))].max())  # visible step
    by_share = {
        100 * share: [each[share].means() for each in recoveries]
        for share in recoveries[0]
        if share != "future"
    }
    by_step = {
        ahead: [each.means(where=steps == last + ahead) for each in futures]
        for ahead in range(1, len(steps) - last)
    }
    figure = drawing.new_figure(3.8)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, table in zip(axes, (by_share, by_step), strict=True):
        apart = (max(table) - min(table) or 1) / 80  # so that bars do not cover each other
        for place, (name, (colour, marker)) in enumerate(CURVES.items()):
            # (points, recoveries)
            values = np.array([[means[name] for means in each] for each in table.values()])
            x = np.array([*table]) + (place - 1.5) * apart
            style = dict(fmt=marker, color=colour, label=name, markersize=5, elinewidth=1)
            axis.errorbar(x, values.mean(1), values.std(1), **style)
        axis.set_xticks([*table])
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    axes[0].set(xlabel="tokens hidden, %", ylabel="mean cosine with the target")
    axes[1].set(xlabel=f"steps into the future, {last + 1} visible")
    place = dict(loc="outside lower center", ncols=len(CURVES), frameon=False, fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), **place)
    name = futures[0].whole.encoder
    heading = [name, caption, "baselines copy features that saw the whole clip"]
    heading += departures(name, futures[0].whole.context, future=True)
    return drawing.with_heading(figure, " · ".join(heading))
