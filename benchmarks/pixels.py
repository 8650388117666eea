"""What tokens hold as pixels, by layer and encoder, and what the predictor believes is hidden:
python -m benchmarks.pixels

Of the first table a ridge regression (`PixelDecoder`) is fitted to three quarters of a clip's
places and scored on the rest, blocks a quarter of the picture's short side wide; raw colours are
the mean colours of the 5×5 patches around a token, in the same regression. Of the second it is
fitted to the visible tokens around a hidden block, a quarter of the picture, and scored there. R²
is against the mean colour of the pixels that are scored; PSNR in brackets, in dB; both are means ±
standard deviation of R² over clips.

Rendered scenes have 8 frames of 160×160 pixels. Of the shipped clips every fourth frame is taken,
of each real clip the first 8 of these, short side 256.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks import pages
from benchmarks.baselines import random_weights
from demo.render.scenes import unseen_scenes
from vjepa_utils.decoding import pixels
from vjepa_utils.decoding.decoder import blocks

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "clips"
NAME = "benchmarks.pixels"  # of the comments around its tables
REAL = "dog_ball*.mp4", "letter_blocks*.mp4", "bedroom*.mp4", "davis/*/*.mp4"


def clips(scenes):
    """(kind, array or Video, size) of every clip."""
    for scene in unseen_scenes(scenes, 8, 160, 160):
        yield "scenes", scene.frames, 160
    for name in ("kitesurfing", "monkey"):
        yield name, vj.read_video(ROOT / "videos" / f"{name}.mp4", every=4), 256
    for file in (file for name in REAL for file in sorted(SHARED.glob(name))):
        yield "real clips", vj.read_video(file, every=4, count=8), 256


def by_layer(encoders, clip, size):
    """{row: {"r2", "psnr"}} where a quarter of the places is held out."""
    found, features = {}, {}
    for encoder in encoders:
        # the final norm's output is the last block's, once both are layer-normalised
        layers = [1, (encoder.depth + 1) // 2, encoder.depth]
        for layer, each in encoder.encode(clip, "pair", size, layers=layers).items():
            features[f"{encoder.name}, block {layer} of {encoder.depth}"] = each
    features["raw colours"] = pixels.raw_colours(next(iter(features.values())), clip)
    for row, each in features.items():
        seen = np.broadcast_to(blocks(each.grid[1:]) != 3, each.grid)
        decoder = vj.PixelDecoder(normalise=row != "raw colours").fit(each, clip, seen)
        found[row] = decoder.score(each, clip, ~seen)
    return found


def recovered(encoder, clip, size):
    """{column: {"r2", "psnr"}} at a hidden block."""
    recovery = encoder.recover(
        clip, vj.masks.block(encoder.grid(clip, size, "clip"), 0.25), size=size
    )
    decoder, visible = vj.PixelDecoder().fit(recovery, clip), ~recovery.hidden
    raw = pixels.raw_colours(recovery.whole, clip)
    copies = {
        name: pixels.agreement(
            pixels.copied(recovery.filled, clip, visible, by), raw, clip, recovery.hidden
        )
        for name, by in (("most similar patch", "features"), ("nearest patch", "place"))
    }
    colours = vj.PixelDecoder(normalise=False).fit(raw, clip, visible)
    return {
        "from the features": decoder.score(recovery.whole, clip, recovery.hidden),
        "from the prediction": decoder.score(recovery, clip),
        **copies,
        "raw colours": colours.score(raw, clip, recovery.hidden),
    }


def cell(scores):
    """R² (PSNR) of some clips."""
    r2, psnr = (np.array([score[name] for score in scores]) for name in ("r2", "psnr"))
    deviation = f" ± {r2.std():.2f}" if len(r2) > 1 else ""
    return f"{r2.mean():.2f}{deviation} ({psnr.mean():.1f})".replace("-", "−")


def main():
    parser = argparse.ArgumentParser(description="What tokens hold as pixels")
    parser.add_argument("--encoder", default="vjepa2-demo", help="whose prediction is decoded")
    parser.add_argument("--beside", nargs="*", default=["dino-demo"], metavar="ENCODER")
    parser.add_argument("--scenes", type=int, default=20)
    pages.add_into(parser)
    arguments = parser.parse_args()
    names = arguments.encoder, *arguments.beside
    encoder, *beside = (vj.load_encoder(name, dtype=torch.float32) for name in names)
    encoders = [encoder, *beside, random_weights(encoder)]
    layers, parts = defaultdict(dict), defaultdict(dict)  # {row: {column: scores}}
    kinds = []
    for kind, clip, size in tqdm([*clips(arguments.scenes)]):
        kinds += [] if kind in kinds else [kind]
        for row, score in by_layer(encoders, clip, size).items():
            layers[row].setdefault(kind, []).append(score)
        for column, score in recovered(encoder, clip, size).items():
            parts[kind].setdefault(column, []).append(score)
    columns = [*parts[kinds[0]]]
    by_row = [[row, *(cell(scores[kind]) for kind in kinds)] for row, scores in layers.items()]
    by_kind = [[kind, *(cell(parts[kind][column]) for column in columns)] for kind in kinds]
    pages.publish(
        {
            NAME: pages.table(["R² (PSNR), held out", *kinds], by_row),
            f"{NAME} hidden": f"{encoder.name}.\n\n{pages.table(['hidden', *columns], by_kind)}",
        },
        arguments.into,
    )


if __name__ == "__main__":
    main()
