"""The demo encoder against random weights of its architecture and raw patch colours: python -m benchmarks.demo_encoder

Mean ± standard deviation over clips (or scenes). Rendered scenes have textures that were never trained on. Colours are
the mean of a patch, and those of 4×4 parts of it. Measures:

J, DAVIS: label propagation (benchmarks/propagation.py) on ../shared/clips/davis, 480 pixels high, all frames.
J, scenes: the same on every moving object of rendered scenes, 10 frames.
same object: share of the patches of moving objects whose nearest neighbour (cosine) eight frames later
    is a patch that the same object touches.
moving: area under the curve of a linear probe that tells patches of moving objects from patches of still ones, on a
    single pair of frames in which all objects wear one texture; fitted on other scenes. Control: the pair's first frame twice.
position, clip: share of the features' variance explained by a patch's place alone, and by its clip alone (adjusted R²).
recovery: cosine of the predictor's output with the layer-normalised features of the whole clip at the hidden tokens of a
    centred block, beside the mean of the visible tokens and the nearest visible token, which saw the whole clip.
"""

import argparse
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks.baselines import PatchColours, random_weights
from benchmarks.propagation import region_overlap
from demo.scenes import unseen_scenes

CLIPS = Path(__file__).parent.parent.parent / "shared" / "clips"
FAST = dict(start=0, every=2, count=8)  # of the real clips, for recovery


@cache
def scenes(count, frames, seed, alike=0.15):
    return list(unseen_scenes(count, frames, 256, 256, seed, alike))


def davis_overlap(encode):
    for folder in sorted(p for p in (CLIPS / "davis").glob("*") if p.is_dir()):
        masks = np.stack([np.array(Image.open(file)) > 127 for file in sorted((folder / "masks").glob("*.png"))])
        yield region_overlap(encode(vj.read_video(folder / f"{folder.name}.mp4"), "frame", 480), masks.astype(np.uint8))[1]


def scene_overlap(encode):
    for scene in scenes(20, 10, seed=1):
        overlaps = region_overlap(encode(scene.frames, "frame", 480), scene.masks)
        yield np.mean(list(overlaps.values())) if overlaps else np.nan


def same_object(encode):
    for scene in scenes(20, 10, seed=1):
        clip, masks = scene.frames, scene.masks
        features = encode(clip[[0, 1, 8, 9]], "pair", 256)
        x = torch.nn.functional.normalize(features.values.flatten(1, 2), dim=-1)  # (2, patches, channels)
        nearest = (x[0] @ x[1].T).argmax(1)
        found = []
        for thing in np.unique(masks[0])[1:]:
            before, after = (features.cover(masks[n] == thing).flatten() for n in (0, 8))
            found.append((after[nearest] > 0)[before > 0.5].float())
        found = torch.cat(found) if found else torch.empty(0)
        yield found.mean().item() if len(found) else np.nan


def moving_probe(encode, control):
    chosen = [0, 0] if control else [0, 1]

    def tokens(seed, count):
        for scene in scenes(count, 2, seed, alike=1.0):
            clip, masks, owner = scene.frames, scene.masks, scene.owner
            features = encode(clip[chosen], "pair", 256)
            thing, moves = features.cover(owner[0] > 0), features.cover(masks[0] > 0)
            on = (thing > 0.5) & ((moves > 0.5) | (moves == 0))  # patches of one kind of object
            yield features.values[0][on].numpy(), (moves > 0.5)[on].numpy()

    x, y = (np.concatenate(part) for part in zip(*tokens(2, 60), strict=True))
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(x, y)
    for x, y in tokens(3, 40):
        if 0 < y.mean() < 1:
            yield roc_auc_score(y, probe.decision_function(x))


def variance_shares(encode):
    """(position, clip): adjusted R² of the means of each place, and of each clip, over scenes."""
    x = torch.stack([encode(scene.frames[:2], "pair", 256).values[0].flatten(0, 1) for scene in scenes(20, 10, seed=1)]).double()
    total = (x - x.mean((0, 1))).square().sum()
    shares = []
    for axis in (0, 1):  # mean over clips: by position; over places: by clip
        means = x.mean(axis, keepdim=True)
        within = (x - means).square().sum() / (x.shape[0] * x.shape[1] - means.shape[0] * means.shape[1])
        shares.append(1 - (within / (total / (x.shape[0] * x.shape[1] - 1))).item())
    return shares


def real_clips():
    files = "davis/*/*.mp4", "dog_ball*.mp4", "letter_blocks*.mp4", "bedroom*.mp4"
    return [vj.read_video(file, **FAST) for name in files for file in sorted(CLIPS.glob(name))]


def recovery(encoder, clips, share):
    """[prediction, mean, nearest] for each clip: mean cosine."""
    for clip in clips:
        found = encoder.recover(clip, vj.masks.block(encoder.grid(clip, 192, "clip"), share), size=192).means()
        yield [found[name] for name in ("prediction", "mean", "nearest")]


def main():
    parser = argparse.ArgumentParser(description="Measure the demo encoder")
    parser.add_argument("--encoder", default="vjepa2-demo", help="a shipped encoder or a folder (default: %(default)s)")
    parser.add_argument("--layer", type=int, help="the layer that is measured (default: the final norm)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # rendered scenes move fast enough to look like cuts
    demo = vj.load_encoder(arguments.encoder, dtype=torch.float32)
    rows = {demo.name: demo, "random weights": random_weights(arguments.encoder)}
    rows |= {"mean colours": PatchColours(demo), "4×4 colours": PatchColours(demo, 4)}
    text = lambda values: f"{np.nanmean(values):.3f} ± {np.nanstd(values):.3f}"
    measures = {
        "J, scenes": scene_overlap,
        "same object": same_object,
        "moving": lambda encode: moving_probe(encode, control=False),
        "moving, control": lambda encode: moving_probe(encode, control=True),
    }
    if CLIPS.is_dir():
        measures = {"J, DAVIS": davis_overlap} | measures
    table = {name: [] for name in (*measures, "position", "clip")}
    with tqdm(total=len(table) * len(rows), leave=False) as progress:
        for name, encoder in rows.items():
            layer = arguments.layer if encoder is demo else None
            encode = lambda video, context, size, encoder=encoder, layer=layer: encoder.encode(video, context, size, layer)
            for measure, values in measures.items():
                progress.set_description(f"{name}: {measure}")
                table[measure].append(text(list(values(encode))))
                progress.update()
            for measure, share in zip(("position", "clip"), variance_shares(encode), strict=True):
                table[measure].append(f"{share:.3f}")
                progress.update()
    print(f"{'':17}" + "".join(f"{name:18}" for name in rows))
    for measure, cells in table.items():
        print(f"{measure:17}" + "".join(f"{cell:18}" for cell in cells))
    print(f"\n{'recovery':17}{'predictor':18}{'mean visible':18}{'nearest visible':18}")
    sources = {"scenes": [scene.frames[:8] for scene in scenes(20, 10, seed=1)], "real clips": real_clips()}
    for source, clips in sources.items():
        for share in (0.25, 0.6, 0.8) if clips else ():
            found = np.array(list(recovery(demo, tqdm(clips, desc=f"recovery, {source}", leave=False), share)))
            print(f"{source + f', {share:.0%}':17}" + "".join(f"{text(column):18}" for column in found.T))


if __name__ == "__main__":
    main()
