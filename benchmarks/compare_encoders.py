"""One table of numbers for any encoders: python -m benchmarks.compare_encoders [ENCODER …]
[--teacher NAME] [--davis FOLDER] [--layers]

Random weights of the architectures and raw colours stand beside them. Rendered scenes have textures
that were never trained on. "pair" features of an image encoder are the mean of the two frames'.
Values are means ± spread: standard deviation over clips for label propagation, of the pooled value
over scenes drawn with replacement for the probes.

J, F, J&F: label propagation by the DAVIS-2017 protocol (benchmarks/propagation.py), single frames
480 pixels high: on real sequences
    (--davis: a DAVIS-2017 folder, or the nine of ../shared/clips/davis), on three of these, the
    only ones measured before the second demo encoder, and on the moving objects of 20 scenes of 10
    frames.
moving: does one pair of frames tell what moves? Area under the curve of a linear probe on patches
of objects that all wear one
    texture; fitted on 60 scenes, measured on 40 others. Control: the pair's first frame twice.
direction, speed: R² of ridge regressions of the motion (x and y, in patches a frame) and of its
size, on all patches that show
    one layer in both frames of the same scenes; the same control.
place, clip: share of the features' variance that a regression on a patch's place explains, and one
on its clip (adjusted R²).
"""

import argparse
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks.baselines import PatchColours, random_weights
from benchmarks.propagation import agreement
from demo.scenes import unseen_scenes

SHARED = Path(__file__).parent.parent.parent / "shared" / "clips" / "davis"
THREE = ("blackswan", "breakdance", "dog")  # sequences
# scenes: to fit the probes, to measure them, for label propagation and variance
TRAIN, TEST, CLIPS = (
    60,
    40,
    20,
)


@cache
def scenes(count, frames, seed, alike=0.15):
    return list(unseen_scenes(count, frames, 256, 256, seed, alike))


@cache
def sequences(folder):
    """{name: (clip, masks)} of a DAVIS-2017 folder (the validation list of 480p), or of folders
    NAME/NAME.mp4 with NAME/masks/.
    """
    folder, found = Path(folder), {}
    if (folder / "ImageSets").is_dir():
        names = (folder / "ImageSets" / "2017" / "val.txt").read_text().split()
        places = [
            (folder / "JPEGImages" / "480p" / name, folder / "Annotations" / "480p" / name)
            for name in names
        ]
    else:
        places = [(file, file.parent / "masks") for file in sorted(folder.glob("*/*.mp4"))]
    for clip, masks in places:
        files = sorted(masks.glob("*.png"))
        if not files:
            raise ValueError(f"{masks} holds no masks (.png).")
        found[Path(clip).stem] = (
            vj.read_video(clip),
            np.stack([np.asarray(Image.open(file)) for file in files]),
        )
    if not found:
        raise ValueError(
            f"{folder} is no DAVIS-2017 folder: it has no ImageSets/2017/val.txt, and no "
            "NAME/NAME.mp4 with NAME/masks/."
        )
    return found


def propagation(encode, clips):
    """{clip: (J, F, J&F)}, means over its objects, of {clip: (video, masks)}."""
    values = {}
    for name, (video, masks) in clips.items():
        if masks[0].any():
            j, f = np.mean([*agreement(encode(video, "frame", 480), masks).values()], 0)
            values[name] = j, f, (j + f) / 2
    return values


def pair_patches(encode, scene, control):
    """Features (patches, channels) of a scene's first pair of frames, which thing each shows,
    whether it moves, and by how much.
    """
    features = encode(scene.frames[[0, 0] if control else [0, 1]], "pair", 256)
    rows, columns = features.grid[1:]
    starts = [
        (0, *features.centre_of(row, column)) for row in range(rows) for column in range(columns)
    ]
    tracks, visible, _ = scene.follow(starts)
    side = scene.frames.shape[1] / rows
    thing, moves = (
        features.cover(scene.owner[0] > 0).numpy().ravel(),
        features.cover(scene.masks[0] > 0).numpy().ravel(),
    )
    return (
        features.values[0].flatten(0, 1).numpy(),
        thing,
        moves,
        (tracks[:, 1] - tracks[:, 0]) / side,
        visible[:, 1],
    )


def probes(encode, control, train=TRAIN, test=TEST):
    """{"moving", "direction", "speed"}: (value, spread over scenes)."""

    def gather(count, seed):
        moving, motion = [], []
        for number, scene in enumerate(scenes(count, 2, seed, alike=1.0)):
            x, thing, moves, flow, visible = pair_patches(encode, scene, control)
            on = (thing > 0.5) & ((moves > 0.5) | (moves == 0))  # patches of one kind of object
            moving.append((x[on], moves[on] > 0.5, np.full(on.sum(), number)))
            motion.append((x[visible], flow[visible], np.full(visible.sum(), number)))
        return [
            [np.concatenate(part) for part in zip(*group, strict=True)]
            for group in (moving, motion)
        ]

    (x, y, _), (u, flow, _) = gather(train, 2)
    (tx, ty, of), (tu, tflow, from_) = gather(test, 3)
    ridge = lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 6)))
    size = lambda flow: np.hypot(*flow.T)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(
        x, y
    )
    found = {
        "moving": (roc_auc_score, ty, classifier.decision_function(tx), of),
        "direction": (r2_score, tflow, ridge().fit(u, flow).predict(tu), from_),
        "speed": (r2_score, size(tflow), ridge().fit(u, size(flow)).predict(tu), from_),
    }
    return {name: pooled(*each) for name, each in found.items()}


def pooled(score, truth, guess, scene):
    """A score over all patches, and its standard deviation when the scenes are drawn 100 times with
    replacement.
    """
    members, random = (
        [np.flatnonzero(scene == n) for n in np.unique(scene)],
        np.random.default_rng(0),
    )
    again = [
        np.concatenate([members[n] for n in random.integers(len(members), size=len(members))])
        for _ in range(100)
    ]
    return score(truth, guess), np.std([score(truth[chosen], guess[chosen]) for chosen in again])


def variance_shares(encode):
    """(place, clip): adjusted R² of the means of each place, and of each clip, over scenes."""
    x = torch.stack(
        [
            encode(scene.frames[:2], "pair", 256).values[0].flatten(0, 1)
            for scene in scenes(CLIPS, 10, seed=1)
        ]
    ).double()
    total = (x - x.mean((0, 1))).square().sum() / (x.shape[0] * x.shape[1] - 1)
    for axis in (0, 1):  # mean over clips: by place; over places: by clip
        means = x.mean(axis, keepdim=True)
        within = (x - means).square().sum() / (
            x.shape[0] * x.shape[1] - means.shape[0] * means.shape[1]
        )
        yield 1 - (within / total).item()


def measure(encoder, layer=None, davis=None, controls=True, train=TRAIN, test=TEST, clips=CLIPS):
    """All numbers of one encoder: {name: (value, spread or None)}.

    Args:
        layer: as for `Encoder.encode`.  davis: a folder for label propagation on real sequences, or
            None.
        train, test: scenes to fit the probes and to measure them.  clips: scenes for label
            propagation, at most 20.
    """
    encode = lambda video, context, size: encoder.encode(video, context, size, layer)
    numbers = {}
    places = {}
    if davis:
        found = propagation(encode, sequences(davis))
        places = {f"DAVIS, {len(found)}": found}
        if set(THREE) < set(found):
            places["DAVIS, 3"] = {name: found[name] for name in THREE}
    rendered = {
        number: (scene.frames, scene.masks)
        for number, scene in enumerate(scenes(CLIPS, 10, seed=1)[:clips])
    }
    places["scenes"] = propagation(encode, rendered)
    for place, values in places.items():
        values = np.array([*values.values()])  # (clips, 3)
        numbers |= {
            f"{name}, {place}": (v.mean(), v.std())
            for name, v in zip(("J", "F", "J&F"), values.T, strict=True)
        }
    for name, control in (("", False), (", control", True)) if controls else (("", False),):
        numbers |= {
            kind + name: value for kind, value in probes(encode, control, train, test).items()
        }
    place, clip = variance_shares(encode)
    return numbers | {"place": (place, None), "clip": (clip, None)}


def beside(encoders, teacher=None):
    """{name: encoder} with what each claim must beat: random weights of the same architectures, and
    raw colours; the teacher first.
    """
    rows = {f"{teacher.name}, teacher": teacher} if teacher else {}
    rows |= {encoder.name: encoder for encoder in encoders}
    rows |= {f"{encoder.name}, random weights": random_weights(encoder) for encoder in encoders}
    video = next((e for e in encoders if e.training_size), None)
    return rows | (
        {"mean colours": PatchColours(video), "4×4 colours": PatchColours(video, 4)}
        if video
        else {}
    )


def table(columns):
    """{encoder: numbers of `measure`} as text, one column for each encoder."""
    text = lambda value, spread: f"{value:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
    wide = max(17, *(len(name) + 2 for name in columns))
    lines = [f"{'':20}" + "".join(f"{name:{wide}}" for name in columns)]
    for measured in next(iter(columns.values())):
        lines.append(
            f"{measured:20}"
            + "".join(f"{text(*numbers[measured]):{wide}}" for numbers in columns.values())
        )
    return "\n".join(line.rstrip() for line in lines)


def main():
    parser = argparse.ArgumentParser(description="One table of numbers for any encoders")
    parser.add_argument(
        "encoders",
        nargs="*",
        default=["vjepa2-demo", "dino-demo"],
        help="default: vjepa2-demo dino-demo",
    )
    parser.add_argument(
        "--teacher", help="an encoder that the others learnt from, to be measured beside them"
    )
    parser.add_argument(
        "--davis", default=SHARED if SHARED.is_dir() else None, help="a DAVIS-2017 folder"
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="each layer instead: no DAVIS or controls, 8 scenes for propagation",
    )
    arguments = parser.parse_args()
    try:
        encoders = [vj.load_encoder(name, dtype=torch.float32) for name in arguments.encoders]
        if not arguments.layers:
            rows = beside(
                encoders,
                vj.load_encoder(arguments.teacher, dtype=torch.float32)
                if arguments.teacher
                else None,
            )
            print(
                table(
                    {
                        name: measure(encoder, None, arguments.davis)
                        for name, encoder in tqdm(rows.items(), leave=False)
                    }
                )
            )
        for encoder in encoders if arguments.layers else ():
            steps = tqdm([*range(1, encoder.depth + 1), None], desc=encoder.name, leave=False)
            found = {
                f"layer {k}" if k else "final norm": measure(encoder, k, controls=False, clips=8)
                for k in steps
            }
            print(encoder.name, table(found), sep="\n")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
