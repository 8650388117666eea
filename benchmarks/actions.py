"""What frozen features know of motion: python -m benchmarks.actions [ENCODER …] [--context pair]

Probes on rendered clips whose class is in the motion alone: twelve classes (demo/motions.py), 8 frames of 128×128 pixels, encoded
as they are. Beside the encoders stand random weights of their architectures and raw colours. Accuracy in per cent: mean over
three seeds, each with another split into clips to train on and to test and another probe, ± half of the 95 % interval of that mean
(Student's t).

in order: the clips as rendered.
backwards: the same probe on the same test clips played backwards, where left is right and nearing is receding.
shuffled: probes trained and tested on clips whose frames are in random order. Left and right are then one, so an
    observer who knows all but the order of frames reaches 58 %.
one frame: probes trained and tested on one frame of each clip, drawn at random and repeated. Chance is 8 %.
"""

import argparse
import sys

import numpy as np
import torch
from scipy.stats import t
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks.baselines import PatchColours, random_weights
from demo.motions import BACKWARDS, SWEEPS, motions
from vjepa_utils.checkpoints import SHIPPED
from vjepa_utils.probes import accuracy, clip_features, train_probe

SIDE, TRAIN, TEST, SEEDS = 128, 32, 16, 3  # pixels; clips of each class
CONDITIONS = ("in order", "backwards", "shuffled", "one frame")


def variants(clip, seed):
    """{condition: the clip's frames as that condition has them}."""
    random = np.random.default_rng(seed)
    orders = np.arange(len(clip)), np.arange(len(clip))[::-1], random.permutation(len(clip)), [random.integers(len(clip))] * len(clip)
    return {condition: clip[order] for condition, order in zip(CONDITIONS, orders, strict=True)}


def measure(features, kind, train, test, seeds=SEEDS):
    """{condition: accuracies, one for each seed}. features: [(class, {condition: Features})], `train` + `test` of each class in turn."""
    found = {condition: [] for condition in CONDITIONS}
    for seed in range(seeds):
        held = np.random.default_rng(seed).permutation(train + test)[:test]
        parts = [], []
        for number, each in enumerate(features):
            parts[number // len(SWEEPS) in held].append(each)
        for condition in ("in order", "shuffled", "one frame"):
            probe = train_probe([f[condition] for _, f in parts[0]], [name for name, _ in parts[0]], kind, seed=seed)
            for tested in CONDITIONS[:2] if condition == "in order" else (condition,):
                truth = [BACKWARDS[name] if tested == "backwards" else name for name, _ in parts[1]]
                found[tested].append(accuracy(truth, probe.predict([f[tested] for _, f in parts[1]]))[0])
    return found


def cell(values):
    values = 100 * np.array(values)
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.0f} ± {half:.0f}"


def main():
    parser = argparse.ArgumentParser(description="Probes on rendered motions")
    parser.add_argument("encoders", nargs="*", default=["vjepa2-demo", "dino-demo"], help="default: vjepa2-demo dino-demo")
    parser.add_argument("--context", default="pair", help='frames that see each other: "pair" (default) or, for video encoders, "clip"')
    parser.add_argument("--train", type=int, default=TRAIN, help="clips of each class to train on (default: %(default)s)")
    parser.add_argument("--test", type=int, default=TEST, help="clips of each class to test (default: %(default)s)")
    arguments = parser.parse_args()
    absent = [name for name in arguments.encoders if name in SHIPPED and not SHIPPED[name].is_dir()]
    for name in absent:
        print(f"{name} is not here: skipped")
    try:
        encoders = [vj.load_encoder(name, dtype=torch.float32) for name in arguments.encoders if name not in absent]
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    encoders += [random_weights(encoder) for encoder in encoders]
    encoders += [PatchColours(encoder, 4) for encoder in encoders if encoder.training_size][:1]
    count = arguments.train + arguments.test
    rendered = tqdm(motions(count, side=SIDE), desc="rendering", total=count * len(SWEEPS), leave=False)
    clips = [(name, variants(clip, seed)) for seed, (name, clip, _) in enumerate(rendered)]
    print(f"{'':30}{'probe':11}" + "".join(f"{condition:12}" for condition in CONDITIONS).rstrip())
    for encoder in encoders:
        encode = lambda clip, encoder=encoder: clip_features(clip, encoder, SIDE, arguments.context)
        features = [(name, {c: encode(v) for c, v in frames.items()}) for name, frames in tqdm(clips, desc=encoder.name, leave=False)]
        for kind in ("linear", "attentive"):
            found = measure(features, kind, arguments.train, arguments.test)
            name = "4×4 colours" if isinstance(encoder, PatchColours) else encoder.name
            print(f"{name:30}{kind:11}" + "".join(f"{cell(values):12}" for values in found.values()).rstrip(), flush=True)
    print(f"{len(SWEEPS)} classes; of each {arguments.train} clips to train on, {arguments.test} to test; context {arguments.context}")


if __name__ == "__main__":
    main()
