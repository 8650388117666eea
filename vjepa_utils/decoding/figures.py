"""Figures and films of decoded pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from vjepa_utils import drawing
from vjepa_utils.decoding.decoder import PixelDecoder, blocks
from vjepa_utils.decoding.pixels import agreement, as_frames, copied, raw_colours, true_pixels
from vjepa_utils.predict import masks
from vjepa_utils.video import as_video

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vjepa_utils.annotations import Clip, File
    from vjepa_utils.features import Features
    from vjepa_utils.predict.recovery import Recovery
    from vjepa_utils.video import Video

CURVE = 1.8  # inches, height of a curve below the pictures


class Decoded(NamedTuple):
    """Pictures of a clip beside each other: `strip` is a figure of them, `animate` writes a film.

    video: the clip.  features: for its frames.  heading: with all numbers.
    rows: {label: frames uint8 (2 · steps, height, width, 3)}.
    curve: {layer: R²} to plot below them, the last one a baseline; or nothing.
    """

    video: Video
    features: Features
    heading: str
    rows: dict[str, np.ndarray]
    curve: dict[str, float]

    def strip(self, most: int | None = None) -> Figure:
        """A figure of `most` steps side by side; None takes as many as can be read."""
        chosen = drawing.evenly(len(self.features.frames), drawing.columns(self.video, most))
        titles = [drawing.covered_frames(self.features.frames[step]) for step in chosen]
        rows = [(label, frames[2 * chosen]) for label, frames in self.rows.items()]
        figure = drawing.picture_rows(rows, titles, self.heading, 1.6)
        if self.curve:
            (width, height), (*layers, baseline) = figure.get_size_inches(), self.curve
            whole = height + CURVE
            figure.set_size_inches(width, whole)
            figure.get_layout_engine().set(rect=(0, CURVE / whole, 1, height / whole))
            axis = figure.add_axes((0.6 / width, 0.4 / whole, 0.6, (CURVE - 0.6) / whole))
            axis.plot(layers, [self.curve[layer] for layer in layers], "o-", color="#c1272d")
            axis.axhline(self.curve[baseline], linestyle="--", color="#777777", label=baseline)
            axis.legend(loc="lower left", fontsize=8, frameon=False)
            axis.set(ylim=(0, 1), ylabel="R²")
            axis.tick_params(labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
        return figure

    def animate(self, path: File, rate: float | None = None) -> None:
        """Write an .mp4 or .gif; rate in frames a second, None for that of the clip's times."""
        keep = np.unique(self.features.frames.flatten(), return_index=True)[1]
        tiles = [drawing.captioned(x[keep], len(keep) * [label]) for label, x in self.rows.items()]
        height, width = self.features.picture_size
        beside = 3 if width > height else len(tiles)

        def mosaics():
            for parts in tqdm(zip(*tiles, strict=True), desc="drawing", delay=2, leave=False):
                white = -len(parts) % beside * [np.full_like(parts[0], 255)]
                high = max(map(len, parts))  # a caption may take more lines than another
                pad = lambda x, high=high: np.pad(
                    x, ((high - len(x), 0), (0, 0), (0, 0)), constant_values=255
                )
                parts = [pad(part) for part in (*parts, *white)]
                lines = [parts[i : i + beside] for i in range(0, len(parts), beside)]
                yield np.concatenate([np.concatenate(line, 1) for line in lines])

        film = drawing.captioned(mosaics(), len(keep) * [self.heading])
        drawing.write_film(film, path, rate or drawing.frame_rate(self.video))


def recovered(video: Clip, recovery: Recovery, name: str = "hidden") -> Decoded:
    """The clip, what is hidden of it, and pixels decoded from the features of the whole clip and
    from the prediction, by a fit to the visible tokens; then the patches most similar to it.

    Args:
        video: the clip that was encoded.  recovery: of it.  name: of the mask.
    """
    whole, filled, visible = recovery.whole, recovery.filled, ~recovery.hidden
    decoder = PixelDecoder().fit(recovery, video)
    shown = {
        "from features": decoder.decode(whole),
        "from prediction": decoder.decode(recovery),
        "most similar": copied(filled, video, visible),
    }
    others = {"nearest patch": copied(filled, video, visible, "place")}
    decoded = _decoded(video, whole, recovery.hidden, shown, others, "hidden")
    clip, *rows = decoded.rows.items()
    where = masks.pixels(recovery.hidden, *whole.picture_size).repeat(2, 0)
    veil = f"{name} {100 * recovery.hidden.mean():.0f} %", drawing.veiled(clip[1], where)
    return decoded._replace(rows=dict([clip, veil, *rows]), curve={})


def by_layer(video: Clip, layers: dict, hidden: np.ndarray | None = None) -> Decoded:
    """The clip, and its pixels decoded from the features of layers.

    Args:
        video: the clip.  layers: {layer: Features}, what `encode(…, layers=…)` gave.
        hidden: bool (steps, rows, columns), tokens that are held out of the fit and give the
            numbers; None for a quarter of the picture.
    """
    first = next(iter(layers.values()))
    if hidden is None:
        hidden = np.broadcast_to(blocks(first.grid[1:]) == 3, first.grid)
    decode = lambda features: PixelDecoder().fit(features, video, ~hidden).decode(features)
    names = {layer: "final norm" if layer is None else f"block {layer}" for layer in layers}
    shown = {names[layer]: decode(features) for layer, features in layers.items()}
    decoded = _decoded(video, first, hidden, shown, {}, "held-out")
    return decoded if len(layers) > 1 else decoded._replace(curve={})


def _decoded(video, features, hidden, shown, others, name):
    """The clip above the frames that are `shown`, {label: frames}, with the numbers of these, of
    `others` and of the same regression from raw colours at the hidden tokens.
    """
    video, raw = as_video(video), raw_colours(features, video)
    guess = PixelDecoder(normalise=False).fit(raw, video, ~hidden).decode(raw)
    numbers = {
        label: agreement(frames, features, video, hidden)
        for label, frames in {**shown, **others, "raw colours": guess}.items()
    }
    curve = {label: each["r2"] for label, each in numbers.items()}
    r2 = {label: f"{value:.2f}".replace("-", "−") for label, value in curve.items()}
    texts = [f"{label} {r2[label]} ({each['psnr']:.1f} dB)" for label, each in numbers.items()]
    heading = (
        f"{video.name} · {features.encoder} · pixels by ridge regression · R² (PSNR) of {name} "
        f"tokens: {', '.join(texts)}, mean colour 0"
    )
    clip = np.concatenate([as_frames(step) for step in true_pixels(features, video)])
    rows = {f"{label}\nR² {r2[label]}": frames for label, frames in shown.items()}
    return Decoded(video, features, heading, {"clip": clip, **rows}, curve)
