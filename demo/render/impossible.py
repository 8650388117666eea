"""Pairs of clips, one possible and one impossible, that are equal up to a frame.

In both clips of a pair a thing moves in the same scene. In the impossible one something happens to
it in plain view and without a cause; in the possible one the same event, or what should happen
instead, is explained:

    vanish    it is gone from one frame to the next        it goes behind a screen
    jump      it is elsewhere from one frame to the next   it moves on as before
    pass      two things pass through each other           they bounce off each other
    turn      it becomes another thing                     it does so behind a screen
    stay      behind a screen, it never comes out again    it comes out on the other side
    reverse   it turns around in empty space               it bounces off a wall

Seeded and endless, in the manner of IntPhys (Riochet et al. 2018, arXiv 1803.07616). Where two
things pass through each other both are visible at once, as neither is in front of the other. A
screen is a panel, a wall a bar from edge to edge.

    python -m demo.render.impossible --sheet sheet.png        # one pair of each kind to look at
    python -m demo.render.impossible --out pairs --pairs 10  # clips, and pairs.csv of them
"""

import argparse
import csv
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from demo.render.scenes import (
    HELD_OUT_PHOTOS,
    Layer,
    compose,
    composite,
    masks_of,
    photographs,
    pick,
    pose,
    textures,
    uniform,
)

KINDS = ("vanish", "jump", "pass", "turn", "stay", "reverse")
ONSETS = (10, 12)  # even: a step of two frames begins with the event
AWAY = 1e4  # pixels: where a thing is while it is absent


@dataclass
class Pair:
    """Two clips and their ground truth.

    kind: one of `KINDS`.  possible, impossible: uint8 (frames, side, side, 3).
    onset: the first frame that differs.
    where: bool (frames, side, side), what shows a thing in either clip, in frames that differ.
    """

    kind: str
    possible: np.ndarray
    impossible: np.ndarray
    onset: int
    where: np.ndarray


def courses(kind, time, speed, radius, width, gap, leap):
    """Where the things of a pair are: they move along x, and the event is near x = 0.

    Args:
        time: (frames,), 0 at the onset.  speed: pixels a frame.  radius: of the things.
        width: half of that of a screen.  gap: between a thing and the wall at the onset.
        leap: (x, y) of a jump.
    Returns:
        The things in the possible and in the impossible clip, each a list of (x, y), both
        (frames,); and (from, to) in x of a screen or wall, or None.
    """
    after, on, y = time >= 0, speed * (time + 0.5) - radius, 0 * time
    gone = torch.full_like(on, AWAY)
    swap = lambda when: [(torch.where(when, gone, on), y), (torch.where(when, on, gone), y)]
    if kind == "vanish":  # in front of the screen; what comes out is the same in both
        hidden = on < 2 * width - radius
        return [(on, y)], [(torch.where(after & hidden, gone, on), y)], (0, 2 * width)
    if kind == "jump":
        return [(on, y)], [(on + after * leap[0], y + after * leap[1])], None
    if kind == "pass":
        off = radius + 0.6 * speed * (time + 0.5)
        left, right = -radius + 0.6 * speed * (time + 0.5), radius - 0.6 * speed * (time + 0.5)
        bounced = torch.where(after, -off, left), torch.where(after, off, right)
        return [(x, y) for x in bounced], [(left, y), (right, y)], None
    if kind == "turn":
        return swap(on > width), swap(after), (0, 2 * width)
    if kind == "stay":
        return [(on, y)], [(torch.where(after, gone, on), y)], (-2 * width, 0)
    back = lambda edge: torch.minimum(on, 2 * (edge - radius) - on)  # when it touches x = edge
    return [(back(gap), y)], [(back(torch.tensor(0.0)), y)], (gap, gap + width / 2)


def pair(kind, generator, bank, frames=20, side=128):
    """One `Pair`, in any direction, on a textured backdrop; in half of them the camera pans.

    bank: of `demo.render.scenes.textures`.
    """
    draw = lambda low, high, *shape: uniform(generator, low, high, *shape)
    onset = ONSETS[int(torch.randint(len(ONSETS), (), generator=generator))]
    speed, radius = draw(0.028, 0.04, ()) * side, draw(0.09, 0.125, ()) * side
    width, away, far = radius + 0.02 * side, draw(1.57, 4.71, ()), draw(2, 3, ()) * radius
    leap = far * away.cos(), far * away.sin()  # back or aside, so that it stays in the picture
    time = torch.arange(frames) - float(onset)
    *both, still = courses(kind, time, speed, radius, width, draw(0.12, 0.2, ()) * side, leap)

    drift = draw(-0.006, 0.006, 2) * side * (draw(0, 1, ()) < 0.5)
    middle = [side / 2 + d * time for d in drift]
    seen = lambda world: compose(pose(*middle, turn), world)[None]
    turn, wide, zero = draw(0, 6.28, ()), 2 * side, torch.zeros(1, dtype=torch.long)
    solid = lambda picture: F.pad(picture, (0, 0, 0, 0, 0, 1), value=1.0)
    backdrop = solid(pick(bank, 1, wide, generator, zoom=(0.4, 1.0)))
    layers = [Layer(backdrop, seen(pose(0, 0, centre=(side, side))), zero, backdrop=True)]
    things = [thing(generator, bank, float(radius)) for _ in both[0]]
    front = []
    if still:
        tall = 2.5 * side if kind == "reverse" else 2 * (radius + draw(0.05, 0.15, ()) * side)
        size = int(tall)
        picture = solid(pick(bank, 1, size, generator)[..., : int(still[1] - still[0])])
        centre = picture.shape[-1] / 2, size / 2
        front = [Layer(picture, seen(pose((still[0] + still[1]) / 2, 0, centre=centre)), zero)]

    clips, masks = [], []
    for places in both:
        moving = [
            Layer(picture, seen(pose(x, y, centre=(picture.shape[-1] / 2,) * 2)), zero + number)
            for number, (picture, (x, y)) in enumerate(zip(things, places, strict=True), 1)
        ]
        # where two things pass, neither is in front: the mean of both orders shows both
        orders = [moving, moving[::-1]] if kind == "pass" else [moving]
        drawn = [composite([*layers, *order, *front], side, side) for order in orders]
        mean = torch.stack([frames for frames, _ in drawn]).mean(0)[0]
        clips.append((mean * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        masks.append(masks_of([*layers, *moving, *front], drawn[0][1])[0].numpy())
    differs = (clips[0] != clips[1]).any((1, 2, 3))
    where = ((masks[0] > 0) | (masks[1] > 0)) & differs[:, None, None]
    return Pair(kind, *clips, onset, where)


def thing(generator, bank, radius):
    """A picture (1, 4, h, w) of something between a disc and a square, with a dark rim."""
    size = 2 * int(radius + 2)
    axis = (torch.arange(size) + 0.5 - size / 2).abs() / radius
    power = uniform(generator, 1.7, 6, ())
    edge = (axis**power + axis.view(-1, 1) ** power) ** (1 / power)  # 1 on the outline
    alpha = torch.sigmoid((1 - edge) * radius / 0.4)[None, None]
    shade = 0.4 + 0.6 * (4 * (1 - edge)).clamp(0, 1)
    return torch.cat([pick(bank, 1, size, generator, zoom=(0.5, 1.0)) * shade * alpha, alpha], 1)


def pairs(seed=0, kinds=KINDS, frames=20, side=128):
    """Yields pairs without end, one kind after the other, with textures that no training used."""
    generator = torch.Generator().manual_seed(seed)
    bank = textures(100, generator, photographs(tuple(HELD_OUT_PHOTOS)))
    for kind in cycle(kinds):
        yield pair(kind, generator, bank, frames, side)


def sheet(path, seed=0):
    """One pair of each kind: every other frame around the event, which is framed in white."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2 * len(KINDS), 7, figsize=(10, 17.5))
    for i, made in enumerate(islice(pairs(seed), len(KINDS))):
        times = range(made.onset - 6, made.onset + 8, 2)
        for line, name in enumerate(("possible", "impossible")):
            clip = getattr(made, name)
            for axis, t in zip(axes[2 * i + line], times, strict=True):
                axis.imshow(clip[t])
                if line and made.where[t].any():
                    axis.contour(made.where[t], [0.5], colors="white", linewidths=1)
                axis.set_title(f"onset {t - made.onset:+}" if not line else "", fontsize=7, pad=2)
                axis.set(xticks=[], yticks=[])
            axes[2 * i + line, 0].set_ylabel(f"{made.kind}\n{name}", fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=90)


def write(folder, count, seed=0):
    """`count` pairs of each kind, a folder of PNGs for each clip, and pairs.csv that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "pairs.csv", "w", newline="") as file:
        table = csv.writer(file)
        header = ["possible", "impossible", "kind", "onset"]
        table.writerow(header)
        total = count * len(KINDS)
        every = tqdm(islice(pairs(seed), total), total=total, desc="rendering")
        for number, made in enumerate(every):
            names = [f"{made.kind}_{number // len(KINDS):03}_{name}" for name in header[:2]]
            for name, clip in zip(names, (made.possible, made.impossible), strict=True):
                (folder / name).mkdir(exist_ok=True)
                for t, frame in enumerate(clip):
                    Image.fromarray(frame).save(folder / name / f"{t:03}.png")
            table.writerow([*names, made.kind, made.onset])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pairs of possible and impossible clips")
    parser.add_argument("--sheet", metavar="OUT.png", help="one pair of each kind")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write clips and pairs.csv")
    parser.add_argument("--pairs", type=int, default=10, help="of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.sheet:
        sheet(arguments.sheet, arguments.seed)
    if arguments.out:
        write(arguments.out, arguments.pairs, arguments.seed)
