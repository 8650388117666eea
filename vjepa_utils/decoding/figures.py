"""Figures and films of decoded pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from vjepa_utils import drawing
from vjepa_utils.decoding import pixels
from vjepa_utils.decoding.decoder import PixelDecoder, blocks
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.predict import masks
from vjepa_utils.predict.recovery import Recovery
from vjepa_utils.predict.surprise import Surprise
from vjepa_utils.video import Clip, File, Size, Video, as_video

CURVE = 1.8  # inches, height of a curve below the pictures


class Decoded(NamedTuple):
    """Pictures of a clip, to draw beside each other.

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
        height, width = self.features.picture_size
        beside = 3 if width > height else len(self.rows)
        tiles = [drawing.captioned(x[keep], len(keep) * [name]) for name, x in self.rows.items()]
        shown = tqdm(zip(*tiles, strict=True), desc="drawing", delay=2, leave=False)
        film = drawing.captioned(
            (_tiled(parts, beside) for parts in shown), len(keep) * [self.heading]
        )
        drawing.write_film(film, path, rate or drawing.frame_rate(self.video))


def _tiled(parts, beside):
    """Pictures of one width as one picture, so many beside each other."""
    high = max(map(len, parts))  # the caption of one may take more lines
    tiles = np.full((len(parts) + -len(parts) % beside, high, *parts[0].shape[1:]), 255, np.uint8)
    for tile, part in zip(tiles, parts, strict=False):
        tile[high - len(part) :] = part
    return np.concatenate(
        [np.concatenate(line, 1) for line in np.split(tiles, len(tiles) // beside)]
    )


def recovered(video: Clip, recovery: Recovery, name: str = "hidden") -> Decoded:
    """The clip; what is hidden; pixels from the features of the whole clip and from the prediction,
    by a fit to the visible tokens; the visible patches that are most similar to the prediction.

    name: of the mask.
    """
    whole, filled, visible = recovery.whole, recovery.filled, ~recovery.hidden
    decoder = PixelDecoder().fit(recovery, video)
    shown = {
        "from features": decoder.decode(whole),
        "from prediction": decoder.decode(recovery),
        "most similar": pixels.copied(filled, video, visible),
    }
    others = {"nearest patch": pixels.copied(filled, video, visible, "place")}
    decoded = _decoded(video, whole, recovery.hidden, shown, others, "hidden")
    (label, clip), *rows = decoded.rows.items()
    veil = drawing.veiled(clip, masks.pixels(~visible, *whole.picture_size).repeat(2, 0))
    share = f"{name} {100 * recovery.hidden.mean():.0f} %"
    return decoded._replace(rows=dict([(label, clip), (share, veil), *rows]), curve={})


def by_layer(video: Clip, layers: dict, hidden: np.ndarray | None = None) -> Decoded:
    """The clip, and its pixels decoded from the features of layers.

    layers: {layer: Features}, what `encode(…, layers=…)` gave.
    hidden: bool (steps, rows, columns), tokens that are held out of the fits and give the numbers;
        None for a quarter of the picture.
    """
    first = next(iter(layers.values()))
    if hidden is None:
        hidden = np.broadcast_to(blocks(first.grid[1:]) == 3, first.grid)
    decode = lambda features: PixelDecoder().fit(features, video, ~hidden).decode(features)
    names = {layer: "final norm" if layer is None else f"block {layer}" for layer in layers}
    shown = {names[layer]: decode(features) for layer, features in layers.items()}
    decoded = _decoded(video, first, hidden, shown, {}, "held-out")
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
    hidden = masks.future(encoder.grid(video, size, "clip"), seen - 1)
    recovery = encoder.recover(video, hidden, surprise.mask_token, size)
    return PixelDecoder().fit(recovery, video).decode(recovery)[-2]


def _decoded(video, features, hidden, shown, others, name):
    """The clip and the frames that are `shown`, {label: frames}, with the numbers of these, of
    `others`, and of the same regression from raw colours at the hidden tokens.
    """
    video, raw = as_video(video), pixels.raw_colours(features, video)
    guess = PixelDecoder(normalise=False).fit(raw, video, ~hidden).decode(raw)
    frames = {**shown, **others, "raw colours": guess}
    numbers = {label: pixels.agreement(x, features, video, hidden) for label, x in frames.items()}
    r2 = {label: f"{n['r2']:.2f}".replace("-", "−") for label, n in numbers.items()}
    texts = [f"{label} {r2[label]} ({n['psnr']:.1f} dB)" for label, n in numbers.items()]
    heading = (
        f"{video.name} · {features.encoder} · pixels by ridge regression · R² (PSNR) of {name} "
        f"tokens: {', '.join(texts)}, mean colour 0"
    )
    rows = {"clip": pixels.as_frames(torch.cat([*pixels.true(features, video)]))}
    rows |= {f"{label}\nR² {r2[label]}": frames for label, frames in shown.items()}
    return Decoded(video, features, heading, rows, {label: n["r2"] for label, n in numbers.items()})
