"""Rendered motions: clips whose class depends on motion and nothing else.

Two objects on a backdrop. Their position, rotation, size and gap and the camera's view each have a
range. In a clip one of these sweeps through its range, upwards or downwards: that is its class. All
others are drawn from their ranges and stay constant. So a random frame of a clip has the same
distribution in every class: it does not reveal the class. Played backwards, a clip is one of class
`BACKWARDS[name]`.

    python -m demo.render.motions --out motions --clips 20  # 20 clips of each class
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from demo.render.scenes import (
    HELD_OUT_PHOTOS,
    Layer,
    composite,
    masks_of,
    outlines,
    photographs,
    pick,
    pose,
    textures,
    uniform,
)
from vjepa_utils.drawing import write_film

SWEEPS = {  # class: what sweeps through its range, and which way
    "left": ("x", -1),
    "right": ("x", 1),
    "up": ("y", -1),
    "down": ("y", 1),
    "clockwise": ("turn", 1),
    "counter-clockwise": ("turn", -1),
    "nearing": ("size", 1),
    "receding": ("size", -1),
    "parting": ("gap", 1),
    "meeting": ("gap", -1),
    "passing behind": ("crossing", 1),
    "camera moving": ("view", 1),
}
PAIRS = [
    ("left", "right"),
    ("up", "down"),
    ("clockwise", "counter-clockwise"),
    ("nearing", "receding"),
    ("parting", "meeting"),
]
BACKWARDS = {name: name for name in SWEEPS} | {
    a: b for pair in PAIRS for a, b in (pair, pair[::-1])
}
# shares of the picture's side: half ranges of place and view, widest gap, object
PLACE, VIEW, GAP, OBJECT = (
    0.25,
    0.25,
    0.7,
    0.6,
)
TURN, SIZE = 1.8, 0.4  # half ranges: radians, and logarithm of the scale


def motion(name, generator, bank, frames=8, side=128):
    """One clip of a class in `SWEEPS`: uint8 (frames, side, side, 3), and masks uint8 (frames,
    side, side), 1 and 2 for the objects.
    """
    draw = lambda low, high, *shape: uniform(generator, low, high, *shape)
    # uniform from -1 to 1 at a random frame, as what is held
    sweep = 2 * (torch.arange(frames) + draw(0, 1, ())) / frames - 1
    held = {
        what: draw(-1, 1, ()).expand(frames) for what in ("x", "y", "turn", "size", "gap", "view")
    }
    what, way = SWEEPS[name]
    swept = {"gap": (1 + way * sweep) / 2, "crossing": sweep}.get(what, way * sweep)
    at = held | {"gap" if what == "crossing" else what: swept}
    heading, seen_along = draw(0, 6.28, 2)
    pan = [VIEW * side * at["view"] * along for along in (seen_along.cos(), seen_along.sin())]
    zeros = torch.zeros(1, dtype=torch.long)

    wide = 2 * side
    world = pose(side / 2 + pan[0], side / 2 + pan[1], centre=(wide / 2, wide / 2))
    picture = F.pad(pick(bank, 1, wide, generator, zoom=(0.4, 1.0)), (0, 0, 0, 0, 0, 1), value=1.0)
    layers = [Layer(picture, world[None], zeros, backdrop=True)]
    for number in (1, 2):
        size = int(OBJECT * side)
        alpha = outlines(1, size, generator)[0].unsqueeze(1)
        picture = torch.cat([pick(bank, 1, size, generator) * alpha, alpha], 1)
        apart = (number - 1.5) * GAP * side * at["gap"]
        x = side / 2 + PLACE * side * at["x"] + pan[0] + apart * heading.cos()
        y = side / 2 + PLACE * side * at["y"] + pan[1] + apart * heading.sin()
        turn, scale = draw(0, 6.28, ()) + TURN * at["turn"], (SIZE * at["size"]).exp()
        layers.append(
            Layer(
                picture, pose(x, y, turn, scale, centre=(size / 2, size / 2))[None], zeros + number
            )
        )
    pictures, owner = composite(layers, side, side)
    clip = (pictures[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return clip.numpy(), masks_of(layers, owner)[0].numpy()


def motions(count, seed=0, names=tuple(SWEEPS), frames=8, side=128):
    """`count` clips of each class, seeded, with textures that no training used: yields name, clip
    and masks as in `motion`.
    """
    generator = torch.Generator().manual_seed(seed)
    bank = textures(100, generator, photographs(tuple(HELD_OUT_PHOTOS)))
    for _ in range(count):
        for name in names:
            yield name, *motion(name, generator, bank, frames, side)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render motions, a folder of clips for each class")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--clips", type=int, default=20, help="of each class (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in SWEEPS:
        (arguments.out / name).mkdir(parents=True, exist_ok=True)
    clips = motions(arguments.clips, arguments.seed)
    for number, (name, clip, _) in enumerate(
        tqdm(clips, total=arguments.clips * len(SWEEPS), desc="rendering")
    ):
        write_film(clip, arguments.out / name / f"{number // len(SWEEPS):03}.mp4", rate=24)
