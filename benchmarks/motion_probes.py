"""What frozen features encode of motion: python -m benchmarks.motion_probes [ENCODER …] [--context
pair]

Probes on rendered clips whose class depends on motion alone: 12 classes (demo/render/motions.py), 8
frames of 128×128 pixels, encoded as they are. Baselines are random weights of the encoders'
architectures and raw colours. Accuracy in per cent: mean over three seeds, each with its own clips,
textures and initialisation of the probe, ± half of the 95 % interval of that mean (Student's t).
The recipe of the probes was chosen on other clips, those of seed 0.

in order: the clips as rendered.
backwards: the same probe on the same test clips played backwards, where left becomes right and
nearing becomes receding.
shuffled: probes trained and tested on clips whose frames are in random order. Left and right are
then indistinguishable, so an observer who knows all but the order of frames reaches 58 %.
one frame: probes trained and tested on one frame of each clip, drawn at random and repeated. Chance
is 8 %.
"""

import argparse
import sys

import numpy as np
import torch
from scipy.stats import t
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks import pages
from benchmarks.baselines import PatchColours, random_weights
from demo.render.motions import BACKWARDS, SWEEPS, motions
from vjepa_utils.probing.classes import accuracy, clip_features, train_probe
from vjepa_utils.weights.checkpoints import SHIPPED

SIDE, TRAIN, TEST, SEEDS = 128, 32, 16, (1, 2, 3)  # pixels; clips of each class
CONDITIONS = ("in order", "backwards", "shuffled", "one frame")


def variants(clip, seed):
    """{condition: the clip's frames under that condition}."""
    random = np.random.default_rng(seed)
    orders = (
        np.arange(len(clip)),
        np.arange(len(clip))[::-1],
        random.permutation(len(clip)),
        [random.integers(len(clip))] * len(clip),
    )
    return {condition: clip[order] for condition, order in zip(CONDITIONS, orders, strict=True)}


def measure(features, kind, train, seed):
    """{condition: accuracy}. features: [(class, {condition: Features})], each class in turn, the
    first `train` of each to train on.
    """
    first, found = train * len(SWEEPS), {}
    for condition in ("in order", "shuffled", "one frame"):
        probe = train_probe(
            [f[condition] for _, f in features[:first]],
            [name for name, _ in features[:first]],
            kind,
            seed=seed,
        )
        for tested in CONDITIONS[:2] if condition == "in order" else (condition,):
            truth = [
                BACKWARDS[name] if tested == "backwards" else name for name, _ in features[first:]
            ]
            found[tested] = accuracy(
                truth, probe.predict([f[tested] for _, f in features[first:]])
            )[0]
    return found


def cell(values):
    values = 100 * np.array(values)
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.0f} ± {half:.0f}"


def main():
    parser = argparse.ArgumentParser(description="Probes on rendered motions")
    parser.add_argument(
        "encoders",
        nargs="*",
        default=["vjepa2-demo", "dino-demo"],
        help="default: vjepa2-demo dino-demo",
    )
    parser.add_argument(
        "--context",
        default="pair",
        help='frames that attend to each other: "pair" (default) or, for video encoders, "clip"',
    )
    parser.add_argument(
        "--train",
        type=int,
        default=TRAIN,
        help="clips of each class to train on (default: %(default)s)",
    )
    parser.add_argument(
        "--test", type=int, default=TEST, help="clips of each class to test (default: %(default)s)"
    )
    pages.add_into(parser)
    arguments = parser.parse_args()
    absent = [name for name in arguments.encoders if name in SHIPPED and not SHIPPED[name].is_dir()]
    for name in absent:
        print(f"{name} is not here: skipped")
    try:
        encoders = [
            vj.load_encoder(name, dtype=torch.float32)
            for name in arguments.encoders
            if name not in absent
        ]
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if arguments.context != "pair" and any(not encoder.training_size for encoder in encoders):
        sys.exit("error: image encoders take pairs only: name video encoders for other contexts.")
    encoders += [random_weights(encoder) for encoder in encoders]
    encoders += [PatchColours(encoder, 4) for encoder in encoders if encoder.training_size][:1]
    count = arguments.train + arguments.test
    total = len(SEEDS) * count * len(SWEEPS)
    rendered = tqdm(
        ((seed, *clip) for seed in SEEDS for clip in motions(count, seed, side=SIDE)),
        "rendering",
        total,
        leave=False,
    )
    clips = [(seed, name, clip) for seed, name, clip, _ in rendered]
    rows = []
    for encoder in encoders:
        encode = lambda clip, encoder=encoder: clip_features(clip, encoder, SIDE, arguments.context)
        features = {seed: [] for seed in SEEDS}
        for number, (seed, name, clip) in enumerate(tqdm(clips, desc=encoder.name, leave=False)):
            features[seed].append((name, {c: encode(v) for c, v in variants(clip, number).items()}))
        for kind in ("linear", "attentive"):
            found = [measure(features[seed], kind, arguments.train, seed) for seed in SEEDS]
            name = "4×4 colours" if isinstance(encoder, PatchColours) else encoder.name
            cells = [cell([each[condition] for each in found]) for condition in CONDITIONS]
            rows.append([name, kind, *cells])
    about = (
        f"{len(SWEEPS)} classes, chance {100 / len(SWEEPS):.0f} %; of each {arguments.train} clips "
        f"to train on, {arguments.test} to test; {len(SEEDS)} seeds; context {arguments.context}."
    )
    text = f"{about}\n\n{pages.table(['', 'probe', *CONDITIONS], rows)}"
    pages.publish({"benchmarks.motion_probes": text}, arguments.into)


if __name__ == "__main__":
    main()
