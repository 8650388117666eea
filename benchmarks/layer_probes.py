"""In which layer are the speed and the direction of what moves: python -m benchmarks.layer_probes
[ENCODER …] [--scenes N]

`vj.probe` on the patches of moving objects in pairs of frames of rendered scenes, 128 pixels high.
All objects of a scene have one texture. Speed is in patches a frame; direction is the angle of the
motion where it is faster than a twentieth of a patch. R², with its 95 % interval over scenes.
"""

import argparse

import numpy as np
import torch

import vjepa_utils as vj
from benchmarks import pages
from demo.render.scenes import unseen_scenes

SIDE, PATCH, SLOW = 128, 16, 0.05  # pixels, pixels, patches a frame


def targets_of(count):
    """{"speed", "direction": [Target]} of `count` scenes."""
    targets = {"speed": [], "direction": []}
    centres = np.arange(PATCH / 2, SIDE, PATCH)
    points = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)  # x, y in token order
    for number, scene in enumerate(unseen_scenes(count, 2, SIDE, SIDE, seed=7, alike=1.0)):
        tracks, visible, _ = scene.follow(np.insert(points, 0, 0, axis=1))
        parts = (scene.masks[0] > 0).reshape(SIDE // PATCH, PATCH, SIDE // PATCH, PATCH)
        chosen = np.flatnonzero((parts.mean((1, 3)).ravel() > 0.5) & visible[:, 1])
        for point, (x, y) in zip(
            points[chosen], (tracks[:, 1] - tracks[:, 0])[chosen], strict=True
        ):
            place = dict(recording=str(number), step=0, point=tuple(point))
            speed = float(np.hypot(x, y))
            targets["speed"].append(vj.probing.Target(scene.frames, speed, **place))
            if speed > SLOW:
                angle = float(np.arctan2(y, x))
                targets["direction"].append(vj.probing.Target(scene.frames, angle, **place))
    return targets


def main():
    parser = argparse.ArgumentParser(description="Speed and direction by layer")
    names = ["vjepa2-demo", "dino-demo"]
    parser.add_argument("encoders", nargs="*", default=names, help=f"default: {' '.join(names)}")
    text = "how many (default: %(default)s)"
    parser.add_argument("--scenes", type=int, default=100, help=text)
    pages.add_into(parser)
    arguments, rows = parser.parse_args(), []
    targets = targets_of(arguments.scenes)
    for name in arguments.encoders:
        encoder = vj.load_encoder(name, dtype=torch.float32)
        for quantity, kind in (("speed", "number"), ("direction", "angle")):
            probes = vj.probe(targets[quantity], encoder, kind, size=SIDE, context="pair")
            for layer, (value, low, high) in probes.scores.items():
                controls = [f"{scores[layer][0]:.2f}" for scores in probes.controls.values()]
                score = f"{value:.2f} ({low:.2f} to {high:.2f})"
                rows.append([encoder.name, quantity, str(layer or "norm"), score, *controls])
    counts = " and ".join(f"{len(each)} patches for {name}" for name, each in targets.items())
    head = ["", "quantity", "block", "R²", *probes.controls]
    text = f"{arguments.scenes} scenes; {counts}.\n\n{pages.table(head, rows)}"
    pages.publish({"benchmarks.layer_probes": text}, arguments.into)


if __name__ == "__main__":
    main()
