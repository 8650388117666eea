"""Figures and films of decoded pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from vjepa_utils import drawing
from vjepa_utils.decoding import pixels
from vjepa_utils.decoding.decoder import PixelDecoder, blocks
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.predict import masks
from vjepa_utils.predict.recovery import Recovery
from vjepa_utils.predict.surprise import Surprise
from vjepa_utils.video import Clip, File, Size, Video, as_video
from vjepa_utils.weights.regime import departures

CURVE = 1.8  # inches, height of a curve below the pictures


class Decoded(NamedTuple):
    """Pictures of a clip, to draw beside each other.

    video: the clip; features: for its frames; heading: with all numbers.
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
            width, height = figure.get_size_inches()
            whole = height + CURVE
            figure.set_size_inches(width, whole)
            figure.get_layout_engine().set(rect=(0, CURVE / whole, 1, height / whole))
            axis = figure.add_axes((0.6 / width, 0.4 / whole, 0.6, (CURVE - 0.6) / whole))
            (*layers, baseline), (*values, least) = zip(*self.curve.items(), strict=True)
            axis.plot(layers, values, "o-", color="#c1272d")
            axis.axhline(least, linestyle="--", color="#777777", label=baseline)
            axis.legend(loc="lower left", fontsize=8, frameon=False)
            axis.set(ylim=(0, 1), ylabel="R²")
            axis.tick_params(labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
        return figure

    def animate(self, path: File) -> None:
        """Write an .mp4 or .gif, the rows beside each other."""
        keep = np.unique(self.features.frames.flatten(), return_index=True)[1]
        names = ", ".join(label.replace("\n", " ") for label in self.rows)
        film = zip(*(frames[keep] for frames in self.rows.values()), strict=True)
        captions = len(keep) * [f"left to right: {names} · {self.heading}"]
        film = drawing.captioned((np.concatenate(row, 1) for row in film), captions)
        drawing.write_film(film, path, drawing.frame_rate(self.video))


def recovered(video: Clip, recovery: Recovery, name: str = "hidden") -> Decoded:
    """The clip; what is hidden; pixels from the features of the whole clip and from the prediction,
    by a fit to the visible tokens; the visible patches that are most similar to the prediction.

    name: of the mask.
    """
    decoder, hidden = PixelDecoder().fit(recovery, video), recovery.hidden
    shown = {
        "from features": decoder.decode(recovery.whole),
        "from prediction": decoder.decode(recovery),
        "most similar": pixels.copied(recovery.filled, video, ~hidden),
    }
    others = {"nearest patch": pixels.copied(recovery.filled, video, ~hidden, "place")}
    decoded = _decoded(video, recovery.whole, hidden, shown, "hidden", others)
    clip = decoded.rows["clip"]
    veil = drawing.veiled(clip, masks.pixels(hidden, *clip.shape[1:3]).repeat(2, 0))
    rows = {"clip": clip, f"{name} {100 * hidden.mean():.0f} %": veil}
    return decoded._replace(rows=rows | decoded.rows, curve={})


def by_layer(video: Clip, layers: dict, hidden: np.ndarray | None = None) -> Decoded:
    """The clip, and its pixels decoded from the features of layers.

    layers: {layer: Features}, what `encode(…, layers=…)` gave.
    hidden: bool (steps, rows, columns), tokens that are held out of the fits and give the numbers;
        None for a quarter of the picture.
    """
    first = next(iter(layers.values()))
    if hidden is None:
        hidden = np.broadcast_to(blocks(first.grid[1:]) == 3, first.grid)
    shown = {}
    for layer, features in layers.items():
        label = "final norm" if layer is None else f"block {layer}"
        shown[label] = PixelDecoder().fit(features, video, ~hidden).decode(features)
    decoded = _decoded(video, first, hidden, shown, "held-out", {})
    return decoded if len(layers) > 1 else decoded._replace(curve={})


def expected(
    surprise: Surprise, encoder: Encoder, video: Clip, size: Size, step: int
) -> np.ndarray:
    """The first frame of a step as the predictor expected it, decoded by a fit to the frames that
    it was given, the furthest ahead: uint8 (height, width, 3). Arguments as for `surprise`.
    """
    seen, ahead = surprise.context // 2, surprise.horizon
    frames = surprise.frames[surprise.at(ahead)][step + 1 - ahead - seen : step + 1]
    video = as_video(video)
    video = video[video.positions(frames.flatten())]
    held = encoder.hold(video, size)
    recovery = held.recover(masks.future(held.grid, seen - 1), surprise.mask_token)
    return PixelDecoder().fit(recovery, video).decode(recovery)[-2]


def _decoded(video, features, hidden, shown, name, others):
    """The clip and the frames that are `shown`, {label: frames}, with the numbers of these, of
    `others`, and of the same regression from raw colours at the hidden tokens.
    """
    video, raw = as_video(video), pixels.raw_colours(features, video)
    guess = PixelDecoder(normalise=False).fit(raw, video, ~hidden).decode(raw)
    rows, texts, curve = {"clip": pixels.as_frames(torch.cat([*pixels.true(raw, video)]))}, [], {}
    for label, frames in {**shown, **others, "raw colours": guess}.items():
        curve[label], psnr = pixels.agreement(frames, features, video, hidden).values()
        r2 = f"{curve[label]:.2f}".replace("-", "−")
        texts.append(f"{label} {r2} ({psnr:.1f} dB)")
        if label in shown:
            rows[f"{label}\nR² {r2}"] = frames
    future = name == "hidden" and hidden[-1].all()
    heading = [video.name, features.encoder]
    heading += departures(features.encoder, features.context, future=future)
    heading.append(f"pixels by ridge regression · R² (PSNR) of {name} tokens: {', '.join(texts)}")
    return Decoded(video, features, " · ".join(heading) + ", mean colour 0", rows, curve)
