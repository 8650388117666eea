"""Rendered scenes with exact ground truth: layers with texture, shape and smooth motion.

A scene is a stack of layers, back to front. Each is a picture with transparency and, for every
frame, an affine pose that places it; so which layer is seen where, and where each point goes, is
known exactly. `random_scenes` makes endless varied clips for training and measuring,
`demo/render/clips.py` the two clips in `videos/` by hand. Everything is torch, batched over scenes,
and runs on a GPU too.

    python -m demo.render.scenes --sheet sheet.png     # 16 random scenes to look at
"""

import argparse
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

PHOTOS = [
    "astronaut",
    "brick",
    "camera",
    "cat",
    "china",
    "coffee",
    "coins",
    "grass",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "rocket",
]
# held out from training, for evaluation
HELD_OUT_PHOTOS = ["flower", "gravel", "motorcycle", "retina"]


@dataclass
class Layer:
    """One layer of a batch of scenes.

    picture: (batch, 4, h, w) red, green, blue (already multiplied by alpha) and alpha, 0 to 1.
    poses: (batch, frames, 2, 3), picture pixels (x, y, 1) to frame pixels (x, y).
    thing: (batch,) int, 0 for what is still in the world, 1… for each moving thing.
    backdrop: continued by reflection beyond its edges, so that no camera sees an end.
    """

    picture: torch.Tensor
    poses: torch.Tensor
    thing: torch.Tensor
    backdrop: bool = False


def invert(poses):
    """Inverse of affine maps (..., 2, 3)."""
    linear = torch.linalg.inv(poses[..., :2])
    return torch.cat([linear, -linear @ poses[..., 2:]], -1)


def transform(poses, points):
    """Points (..., 2) through affine maps (..., 2, 3)."""
    return (poses[..., :2] @ points.unsqueeze(-1) + poses[..., 2:]).squeeze(-1)


def compose(outer, inner):
    """The affine map that applies `inner`, then `outer`; both (..., 2, 3)."""
    return torch.cat(
        [outer[..., :2] @ inner[..., :2], outer[..., :2] @ inner[..., 2:] + outer[..., 2:]], -1
    )


def pose(x, y, turn=0.0, scale_x=1.0, scale_y=None, centre=(0.0, 0.0)):
    """Affine map that scales and turns (radians, clockwise on screen) about `centre`, then moves it
    to (x, y).

    Arguments are tensors of one shape and device, or numbers; returns (..., 2, 3), there.
    """
    numbers = x, y, turn, scale_x, scale_x if scale_y is None else scale_y
    device = next((v.device for v in numbers if torch.is_tensor(v)), None)
    x, y, turn, sx, sy = torch.broadcast_tensors(
        *(torch.as_tensor(v, dtype=torch.float32, device=device) for v in numbers)
    )
    cos, sin = turn.cos(), turn.sin()
    linear = torch.stack(
        [torch.stack([cos * sx, -sin * sy], -1), torch.stack([sin * sx, cos * sy], -1)], -2
    )
    about = linear @ torch.tensor(
        [[centre[0]], [centre[1]]], dtype=torch.float32, device=linear.device
    )
    return torch.cat([linear, torch.stack([x, y], -1).unsqueeze(-1) - about], -1)


def composite(layers, height, width, light=None):
    """Draw the layers over one another.

    Args:
        light: (batch, frames) brightness of each frame, 1 as painted.
    Returns:
        frames (batch, frames, 3, height, width) float 0 to 1, and owner (batch, frames, height,
        width) uint8: number of the uppermost layer that covers at least half of the pixel.
    """
    batch, count = layers[0].poses.shape[:2]
    device = layers[0].picture.device
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5,
        torch.arange(width, device=device) + 0.5,
        indexing="ij",
    )
    frames = torch.zeros(batch, 3, count * height, width, device=device)
    owner = torch.zeros(batch, count * height, width, dtype=torch.uint8, device=device)
    for number, layer in enumerate(layers):
        size = torch.tensor(layer.picture.shape[:1:-1], device=device).view(2, 1)
        inverse = invert(layer.poses) * (2 / size)  # frame pixels to -1…1 across the picture
        inverse[..., 2] -= 1
        inverse = inverse[:, :, None, None]
        grid = (
            x.unsqueeze(-1) * inverse[..., 0] + y.unsqueeze(-1) * inverse[..., 1] + inverse[..., 2]
        )
        grid = grid.flatten(1, 2)  # (batch, frames * height, width, 2)
        padding = "reflection" if layer.backdrop else "zeros"
        drawn = F.grid_sample(layer.picture, grid, padding_mode=padding, align_corners=False)
        alpha = drawn[:, 3:]
        frames = torch.addcmul(drawn[:, :3], frames, 1 - alpha)
        owner.masked_fill_(alpha[:, 0] > 0.5, number)
    frames = frames.unflatten(2, (count, height)).transpose(1, 2)
    if light is not None:
        frames = frames * light[..., None, None, None]
    return frames.clamp(0, 1), owner.unflatten(1, (count, height))


def masks_of(layers, owner):
    """(batch, frames, height, width) uint8: which moving thing each pixel shows, 0 for what is
    still.
    """
    things = torch.stack([layer.thing for layer in layers], 1).to(owner.device)  # (batch, layers)
    return things.gather(1, owner.flatten(1).long()).view(owner.shape).to(torch.uint8)


def follow(layers, owner, starts):
    """True tracks of scene points.

    Args:
        owner: of `composite`.
        starts: (batch, n, 3) float: frame, x, y where each point is picked, on whatever is
            uppermost there.
    Returns:
        tracks (batch, n, frames, 2) as x, y; visible (batch, n, frames) bool; object (batch, n) as
        in `Layer.thing`.
    """
    batch, count, height, width = owner.shape
    every = torch.arange(batch, device=owner.device)[:, None]
    frame, x, y = starts.long().unbind(-1)
    layer = owner[every, frame, y, x].long()  # (batch, n)
    poses = torch.stack([each.poses for each in layers], 1)  # (batch, layers, frames, 2, 3)
    on_layer = transform(invert(poses[every, layer, frame]), starts[..., 1:])  # (batch, n, 2)
    tracks = transform(poses[every, layer], on_layer.unsqueeze(2))  # (batch, n, frames, 2)
    x, y = tracks.floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    seen = owner[
        every[..., None],
        torch.arange(count, device=owner.device),
        y.clamp(0, height - 1),
        x.clamp(0, width - 1),
    ]
    things = torch.stack([each.thing for each in layers], 1)
    return tracks, inside & (seen == layer.unsqueeze(-1)), things.gather(1, layer)


# Textures


@cache
def photographs(names):
    """Photographs that scikit-image and scikit-learn ship: a list of (3, h, w) float tensors, 0 to
    1.
    """
    import skimage.data
    from sklearn.datasets import load_sample_image

    def load(name):
        if name in ("china", "flower"):
            return load_sample_image(f"{name}.jpg")
        if name == "motorcycle":
            return skimage.data.stereo_motorcycle()[0]
        return getattr(skimage.data, name)()

    pictures = [np.atleast_3d(load(name)) for name in names]
    return [
        torch.tensor(np.broadcast_to(p, (*p.shape[:2], 3)) / 255.0).permute(2, 0, 1).float()
        for p in pictures
    ]


def noise(generator, batch, height, width, cell, octaves=3, device="cpu"):
    """Smooth noise of zero mean and unit standard deviation: (batch, height, width); `cell` is its
    coarsest scale in pixels.
    """
    total = torch.zeros(batch, height, width, device=device)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        shape = (batch, 1, int(height / size) + 3, int(width / size) + 3)
        coarse = normal(generator, *shape, device=device)
        total += (
            F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[:, 0]
            / 2**octave
        )
    return (total - total.mean((1, 2), keepdim=True)) / total.std((1, 2), keepdim=True).clamp_min(
        1e-6
    )


def uniform(generator, low, high, *shape, device="cpu"):
    """Drawn on the CPU, as all numbers here: a scene is the same on any device."""
    return low + (high - low) * torch.rand(*shape, generator=generator).to(device)


def normal(generator, *shape, device="cpu"):
    return torch.randn(*shape, generator=generator).to(device)


def textures(count, generator, photos, size=128, device="cpu"):
    """A bank of (count, 3, size, size) textures, 0 to 1: pieces of photographs, noise, stripes,
    checks, dots, plain.
    """
    bank = torch.empty(count, 3, size, size)
    draw = lambda low, high, *shape: uniform(generator, low, high, *shape)
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    for i in range(count):
        kind = torch.rand((), generator=generator).item()
        if kind < 0.7:  # a piece of a photograph
            photo = photos[int(torch.randint(len(photos), (), generator=generator))]
            side = int(draw(64, min(320, *photo.shape[1:]), ()))
            top, left = (
                int(torch.randint(n - side + 1, (), generator=generator)) for n in photo.shape[1:]
            )
            piece = photo[None, :, top : top + side, left : left + side]
            bank[i] = F.interpolate(
                piece, (size, size), mode="bilinear", align_corners=False, antialias=True
            )[0]
            if torch.rand((), generator=generator) < 0.5:  # other colours, same structure
                channels = torch.randperm(3, generator=generator)
                bank[i] = bank[i][channels] * draw(0.6, 1.4, 3, 1, 1) + draw(-0.2, 0.2, 3, 1, 1)
        else:
            turn, period = draw(0, 3.14, ()), draw(3, 14, ())
            u, v = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
            if kind < 0.85:
                level = noise(generator, 1, size, size, draw(6, 60, ()).item(), octaves=4)[0]
            elif kind < 0.88:
                level = 2 * (u * 3.14 * period).sin()
            elif kind < 0.92:
                level = 3 * (u * 1.57 * period).sin() * (v * 1.57 * period).sin()
            elif kind < 0.95:
                level = 6 * ((u * 1.57 * period).sin() ** 2 * (v * 1.57 * period).sin() ** 2 - 0.5)
            else:
                level = 0.5 * u + 0.1 * noise(generator, 1, size, size, 4.0)[0]
            grey, tint = draw(0, 1, 2, 1, 1, 1), draw(0, 1, 2, 3, 1, 1)
            first, second = grey + draw(0, 1, ()) * (tint - grey)  # from grey to vivid
            bank[i] = first + (second - first) * torch.sigmoid(draw(0.7, 2.5, ()) * level)
            bank[i] += 0.03 * noise(generator, 1, size, size, 2.0, octaves=1)
    return bank.clamp(0, 1).to(device)


def pick(bank, batch, size, generator, zoom=(0.5, 1.4)):
    """Random textures of the bank, each rotated, flipped and cropped: (batch, 3, size, size)."""
    device = bank.device
    chosen = bank[torch.randint(len(bank), (batch,), generator=generator)]
    scale = uniform(generator, *zoom, batch, device=device) * size / bank.shape[-1]
    turn = uniform(generator, 0, 6.28, batch, device=device)
    flip = torch.randint(0, 2, (batch,), generator=generator).to(device) * 2 - 1
    shift = uniform(generator, -1, 1, 2, batch, device=device)
    place = pose(*shift, turn, scale, scale * flip)
    grid = F.affine_grid(place, (batch, 3, size, size), align_corners=False)
    return F.grid_sample(chosen, grid, padding_mode="reflection", align_corners=False)


# Random scenes


def outlines(batch, size, generator, device="cpu"):
    """Soft shapes of many kinds that fill their square: alpha (batch, size, size) and depth (the
    same), 0 to 1.

    A radius that is a random Fourier series of the angle, taken to a random power, gives blobs,
    petals, polygon-like and elongated forms; some have a hole.
    """
    axis = torch.linspace(-1, 1, size, device=device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    stretch = uniform(generator, 0.45, 1, batch, 1, 1, device=device)
    angle, radius = torch.atan2(y / stretch, x), (x**2 + (y / stretch) ** 2).sqrt()
    orders = torch.arange(1, 7, device=device).view(1, -1, 1, 1)
    rough = uniform(generator, 0.05, 0.5, batch, 1, 1, 1, device=device)
    weight = normal(generator, batch, 6, 1, 1, device=device) * rough / orders**0.5
    phase = uniform(generator, 0, 6.28, batch, 6, 1, 1, device=device)
    edge = torch.exp((weight * (orders * angle.unsqueeze(1) + phase).cos()).sum(1))
    edge = 0.92 * edge / edge.amax((1, 2), keepdim=True)
    inside = 1 - radius / edge  # 1 at the centre, 0 on the outline
    hole = uniform(generator, 0, 1, batch, 1, 1, device=device) < 0.12
    inside = torch.where(hole, torch.minimum(inside, 2.2 * (0.62 - inside)), inside)
    return torch.sigmoid(inside * edge * size / 1.2), inside.clamp(0, 1)


def smooth_path(generator, batch, count, speed, device="cpu"):
    """Positions over time of smooth motion that starts anywhere on a curved path: (batch, count,
    2), 0 at the middle.

    speed: (batch, 1, 1), distance per frame.
    """
    time = torch.arange(count, device=device).view(1, -1, 1) - (count - 1) / 2
    heading = uniform(generator, 0, 6.28, batch, 1, 1, device=device)
    velocity = torch.cat([heading.cos(), heading.sin()], -1) * speed
    bend = normal(generator, batch, 1, 2, device=device) * speed * 0.04
    sway = normal(generator, batch, 1, 2, device=device) * speed * 0.8
    rate, phase = uniform(generator, 0.2, 0.8, 2, batch, 1, 1, device=device)
    return (
        velocity * time
        + bend * time**2
        + sway * ((rate * time + 8 * phase).sin() - (8 * phase).sin())
    )


def random_scenes(batch, count, height, width, generator, bank, things=7, alike=0.15):
    """Layers and light of `batch` random scenes of `count` frames.

    A backdrop of two to six regions of different appearance; up to `things` objects in random
    order, about half of them still, others moving, rotating and growing; a share `alike` of them
    has the texture of a region, so that only motion distinguishes them. In half of the scenes the
    camera pans, zooms and rolls, near layers moving more than far ones. The light changes slowly.
    """
    device = bank.device
    draw = lambda low, high, *shape: uniform(generator, low, high, *shape, device=device)
    chance = lambda p, *shape: draw(0, 1, *shape) < p
    side = max(height, width)
    zeros = torch.zeros(batch, dtype=torch.long, device=device)
    time = torch.arange(count, device=device).view(1, -1) - (count - 1) / 2

    # The camera: one affine map per frame, the same for all layers but for parallax.
    moving = chance(0.5, batch, 1).float()
    pan = smooth_path(
        generator, batch, count, draw(0, 0.02, batch, 1, 1) * side, device
    ) * moving.unsqueeze(-1)
    zoom = torch.exp(moving * draw(-0.012, 0.012, batch, 1) * time)
    roll = moving * draw(-0.008, 0.008, batch, 1) * time

    def seen(world, parallax):
        shift = pan * parallax
        camera = pose(
            width / 2 + shift[..., 0],
            height / 2 + shift[..., 1],
            roll,
            zoom,
            centre=(width / 2, height / 2),
        )
        return compose(camera, world)

    # The backdrop: regions are where one of several smooth fields is the largest.
    back = int(1.25 * side)
    fields = noise(generator, batch * 6, back, back, back / 2.5, octaves=3, device=device).view(
        batch, 6, back, back
    )
    regions = torch.randint(2, 7, (batch, 1), generator=generator).to(device)
    used = torch.arange(6, device=device) < regions
    fields = fields.masked_fill(~used[..., None, None], -1e3)
    share = torch.softmax(fields * side / 8, 1)
    looks = pick(bank, batch * 6, back, generator, zoom=(0.4, 1.0)).view(batch, 6, 3, back, back)
    shade = 1 + 0.12 * noise(
        generator, batch, back, back, back / 2, octaves=1, device=device
    ).unsqueeze(1)
    picture = ((share.unsqueeze(2) * looks).sum(1) * shade).clamp(0, 1)
    world = pose(
        *[draw(0, side, batch, 1).expand(-1, count) for _ in range(2)],
        draw(0, 6.28, batch, 1),
        centre=(back / 2, back / 2),
    )
    layers = [
        Layer(F.pad(picture, (0, 0, 0, 0, 0, 1), value=1.0), seen(world, 1.0), zeros, backdrop=True)
    ]

    for number in range(1, things + 1):
        size = side // 2
        alpha, depth = outlines(batch, size, generator, device)
        own = pick(bank, batch, size, generator)
        borrowed = looks[:, 0, :, :size, :size]
        borrows = chance(alike, batch, 1, 1, 1)
        sun = draw(-0.35, 0.35, 2, batch, 1, 1)
        axis = torch.linspace(-1, 1, size, device=device)
        relief = 0.8 + sun[0] * axis + sun[1] * axis.view(-1, 1) + 0.3 * depth.clamp(0, 0.5)
        rgb = torch.where(borrows, borrowed, own * relief.unsqueeze(1)).clamp(0, 1)
        present = chance(0.75, batch, 1, 1)
        alpha = (alpha * present).unsqueeze(1)

        still = chance(0.5, batch, 1)
        go = (~still).float()
        path = smooth_path(
            generator, batch, count, draw(0.004, 0.06, batch, 1, 1) * side, device
        ) * go.unsqueeze(-1)
        place = draw(0, 1, batch, 1, 2) * torch.tensor([width, height], device=device)
        turn = draw(0, 6.28, batch, 1) + go * draw(-0.12, 0.12, batch, 1) * time
        scale = torch.exp(
            draw(-1.2, 0.5, batch, 1) + go * draw(-0.02, 0.02, batch, 1) * time
        ) * draw(0.8, 1.1, batch, 1)
        world = pose(
            place[..., 0] + path[..., 0],
            place[..., 1] + path[..., 1],
            turn,
            scale,
            centre=(size / 2, size / 2),
        )
        layers.append(
            Layer(
                torch.cat([rgb * alpha, alpha], 1),
                seen(world, 1 + 0.08 * number),
                (~still[:, 0]).long() * number,
            )
        )

    light = (
        1
        + draw(0, 0.12, batch, 1)
        * (draw(0.05, 0.4, batch, 1) * time + draw(0, 6.28, batch, 1)).sin()
    )
    return layers, light


@dataclass
class Scene:
    """One rendered scene and its ground truth.

    frames: uint8 (T, H, W, 3).  masks: uint8 (T, H, W), 1… for each moving thing.  owner: the same
        shape, which layer each pixel shows: 0 the backdrop, 1… each thing, moving or still.
    layers: of a batch of one.
    """

    frames: np.ndarray
    masks: np.ndarray
    owner: np.ndarray
    layers: list

    def follow(self, starts):
        """True tracks of points (n, 3) frame, x, y: tracks (n, T, 2) float32, visible (n, T) bool,
        object (n,) as in `masks`.
        """
        owner = torch.from_numpy(self.owner)[None]
        return [
            part[0].numpy()
            for part in follow(
                self.layers, owner, torch.as_tensor(starts, dtype=torch.float32)[None]
            )
        ]


def unseen_scenes(count, frames, height, width, seed=0, alike=0.15):
    """Yields `count` random `Scene`s with textures that no training used, for evaluation."""
    generator = torch.Generator().manual_seed(seed)
    bank = textures(100, generator, photographs(tuple(HELD_OUT_PHOTOS)))
    for _ in range(count):
        layers, light = random_scenes(1, frames, height, width, generator, bank, alike=alike)
        pictures, owner = composite(layers, height, width, light)
        clip = (pictures[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        yield Scene(clip.numpy(), masks_of(layers, owner)[0].numpy(), owner[0].numpy(), layers)


def sheet(path, seed=0):
    """A contact sheet of 16 random scenes: first and last frame of each, with the masks of moving
    things.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    generator = torch.Generator().manual_seed(seed)
    layers, light = random_scenes(
        16, 8, 160, 160, generator, textures(200, generator, photographs(tuple(PHOTOS)))
    )
    frames, owner = composite(layers, 160, 160, light)
    masks = masks_of(layers, owner)
    figure, axes = plt.subplots(8, 6, figsize=(12, 16))
    for scene, row in enumerate(axes.reshape(16, 3)):
        row[0].imshow(frames[scene, 0].permute(1, 2, 0))
        row[1].imshow(frames[scene, -1].permute(1, 2, 0))
        row[2].imshow(
            masks[scene, 0], cmap="nipy_spectral", vmin=0, vmax=8, interpolation="nearest"
        )
        for axis, title in zip(row, ("first frame", "last frame", "what moves"), strict=True):
            axis.set_title(title if scene < 2 else "", fontsize=8)
            axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A contact sheet of random scenes")
    parser.add_argument(
        "--sheet", default="sheet.png", metavar="OUT.png", nargs="?", const="sheet.png"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sheet(arguments.sheet, arguments.seed)
