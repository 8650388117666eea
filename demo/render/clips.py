"""Render the two clips in `videos/` with their ground truth. Seeded; takes a few minutes.

    python -m demo.render.clips            # videos/kitesurfing.mp4, videos/monkey.mp4 and an .npz beside each

Everything is drawn here from soft shapes and noise and moved by `demo.render.scenes`. The .npz holds masks uint8 (T, H, W),
0 for what is still and 1… for each moving thing, whose names are in `names`; tracks float32 (N, T, 2) as x, y; visible
bool (N, T); object (N,), the thing each point is on, 0 for the background. Shimmer on water counts as still.
"""

import argparse
from pathlib import Path

import av
import numpy as np
import torch
from tqdm import tqdm

from demo.render.scenes import Layer, composite, follow, masks_of, noise, pose
from vjepa_utils.files import replacing

FRAMES, RATE = 48, 24
TIME = torch.arange(FRAMES, dtype=torch.float32)


def rgb(text):
    """'#rrggbb' to (3, 1, 1)."""
    return torch.tensor([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]).view(3, 1, 1)


def pixels(height, width):
    return torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")


def grain(seed, height, width, cell, octaves=4):
    return noise(torch.Generator().manual_seed(seed), 1, height, width, cell, octaves)[0]


def ramp(y, stops):
    """A vertical gradient: stops [(y, colour), …] to (3, …)."""
    out = rgb(stops[0][1]).expand(3, *y.shape)
    for (y0, _), (y1, colour) in zip(stops, stops[1:], strict=False):
        t = ((y - y0) / (y1 - y0)).clamp(0, 1)
        t = t * t * (3 - 2 * t)
        out = out * (1 - t) + rgb(colour) * t
    return out


def sprite(colour, alpha):
    """(1, 4, h, w) of colour (3, h, w) and alpha (h, w), multiplied."""
    alpha = alpha.clamp(0, 1)
    return torch.cat([colour.clamp(0, 1) * alpha, alpha.unsqueeze(0)]).unsqueeze(0)


def opaque(colour):
    return sprite(colour, torch.ones(colour.shape[1:]))


def still(x=0.0, y=0.0):
    return pose(torch.full((1, FRAMES), float(x)), y)


def curve(*keys):
    """Smooth curve through key frames (frame, value), flat at each end: (1, FRAMES)."""
    from scipy.interpolate import PchipInterpolator

    frames, values = zip(*keys, strict=True)
    course = PchipInterpolator(frames, values)(np.clip(TIME.numpy(), frames[0], frames[-1]))
    return torch.from_numpy(course).float().unsqueeze(0)


def limb(length, thick, thin, colour, seed, fur=0.12, end=None):
    """A rounded limb that hangs down from its joint. Returns picture and joint (x, y) in it."""
    radius = max(thick, thin)
    h, w = int(length + 2 * radius + 8), int(2 * radius + 8)
    y, x = pixels(h, w)
    joint = (w / 2, radius + 4)
    along = ((y - joint[1]) / length).clamp(0, 1)
    r = thick + (thin - thick) * along
    away = ((x - joint[0]) ** 2 + (y - joint[1] - along * length) ** 2).sqrt()
    hair = grain(seed, h, w, 5, 2) * fur * 6
    side = ((x - joint[0]) / r).clamp(-1, 1)
    light = 0.62 + 0.38 * (1 - (side + 0.35) ** 2).clamp(0, 1) - 0.12 * along
    tone = rgb(colour).expand(3, h, w)
    if end:  # a hand or foot of another colour
        tone = torch.where(along > 0.86, rgb(end), tone)
    tone = tone * (light + fur * grain(seed + 1, h, w, 3, 2) * 0.7)
    return sprite(tone, r - away + 0.5 + hair * (away > r - 4)), joint


def ball(rx, ry, colour, seed, fur=0.12, tip=None):
    """A shaded ellipse with its centre in the middle; `tip` is the colour of its lower right."""
    h, w = int(2 * ry + 12), int(2 * rx + 12)
    y, x = pixels(h, w)
    u, v = (x - w / 2) / rx, (y - h / 2) / ry
    r = (u * u + v * v).sqrt()
    light = 0.55 + 0.5 * (1 - ((u + 0.35) ** 2 + (v + 0.45) ** 2) / 2.4).clamp(0, 1)
    tone = rgb(colour).expand(3, h, w)
    if tip:
        t = torch.sigmoid((v * 0.8 + u * 0.5 - 0.25) * 5)
        tone = tone * (1 - t) + rgb(tip) * t
    tone = tone * (light + fur * grain(seed, h, w, 4, 3) * 0.8)
    edge = (1 - r) * min(rx, ry) + 0.5 + fur * 8 * grain(seed + 1, h, w, 4, 2) * (r > 0.85)
    return sprite(tone, edge), (w / 2, h / 2)


# Kitesurfing: portrait, 720 × 1280


def kite(span, first, second, seed):
    """An inflatable kite seen from below: a crescent with panels, seams, a bright leading edge and shading."""
    h, w = int(span * 0.56), int(span * 1.08)
    y, x = pixels(h, w)
    u, v = (x - w / 2) / (span / 2), (y - 0.06 * span) / span
    top = 0.02 + 0.38 * u.abs() ** 2.2  # the leading edge, as depth below its highest point
    depth = 0.27 * (1 - u * u).clamp(0, 1) ** 0.55 + 0.004
    t = (v - top) / depth  # 0 on the leading edge, 1 on the trailing edge
    inside = torch.minimum(torch.minimum(t, 1 - t) * depth, (1 - u.abs()) * 0.3) * span
    panel = ((u + 1) * 4.5).floor() % 2
    tone = torch.where(panel > 0, rgb(first), rgb(second)) if second else rgb(first).expand(3, h, w)
    stripe = (t > 0.55) & (t < 0.72)
    tone = torch.where(stripe, rgb("#f4efe6") * 0.95, tone)
    seam = torch.exp(-((((u + 1) * 4.5) % 1 - 0.5).abs() - 0.5) ** 2 * 900)
    light = 0.78 + 0.35 * (1 - t) * (1 - u * 0.35) - 0.25 * seam + 0.02 * grain(seed, h, w, 6, 3)
    edge = torch.exp(-((t - 0.08) ** 2) / 0.006)
    tone = tone * light * (1 - 0.35 * edge) + 0.35 * edge * rgb("#ffd9c9")
    return sprite(tone, inside + 0.5), (w / 2, 0.2 * span)


def surfer(seed):
    """Rider and board in one piece, leaning back: picture and the point that rests on the water."""
    h, w = 230, 220
    y, x = pixels(h, w)

    def part(ax, ay, bx, by, ra, rb, colour, under):
        dx, dy = bx - ax, by - ay
        t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
        r = ra + (rb - ra) * t
        offset_x, offset_y = x - ax - t * dx, y - ay - t * dy
        away = (offset_x**2 + offset_y**2).sqrt()
        light = 0.8 + 0.45 * (-(offset_x + offset_y) / r).clamp(-1, 1) * 0.6
        tone, alpha = under
        cover = (r - away + 0.5).clamp(0, 1)
        return tone * (1 - cover) + rgb(colour) * light * cover, alpha + (1 - alpha) * cover

    drawn = torch.zeros(3, h, w), torch.zeros(h, w)
    for piece in (
        (40, 204, 180, 212, 5, 5, "#f2c230"), (52, 204, 168, 211, 2, 2, "#d9512c"),  # board
        (96, 130, 74, 166, 13, 10, "#26323d"), (74, 166, 82, 202, 10, 7, "#26323d"),  # back leg
        (104, 130, 126, 162, 13, 10, "#2f3d4a"), (126, 162, 142, 204, 10, 7, "#2f3d4a"),  # front leg
        (98, 132, 74, 72, 18, 21, "#1f6f8b"), (94, 128, 88, 112, 20, 20, "#15181c"),  # torso, harness
        (72, 70, 112, 66, 9, 7, "#1f6f8b"), (112, 66, 146, 56, 7, 5, "#c98d63"),  # arm
        (70, 40, 71, 46, 16, 14, "#c98d63"), (66, 33, 76, 33, 14, 12, "#3a2417"),  # head, hair
        (146, 40, 150, 74, 3, 3, "#20242a"),  # bar
    ):
        drawn = part(*piece, drawn)
    tone, alpha = drawn
    tone = tone + 0.02 * grain(seed, h, w, 3, 2)
    return sprite(tone, alpha), (110, 208), (148, 56)


def kitesurfing():
    """Layers and names of the kitesurfing scene."""
    width, height, horizon, shore = 720, 1280, 640, 1075
    y, x = pixels(height, width)
    sky = ramp(y, [(0, "#2f77b8"), (430, "#8fc0e0"), (horizon, "#e6ecea")])
    puff = grain(1, height, width, 260, 6) + 0.5 * grain(2, height, width, 90, 5) - 0.004 * (y - 330).abs()
    cloud = torch.sigmoid(3.2 * (puff - 0.1)) * 0.9
    sky = sky * (1 - cloud) + (rgb("#fbfaf6") * (1 - 0.12 * torch.sigmoid(2 * grain(3, height, width, 120, 4)))) * cloud
    layers = []
    zero = torch.zeros(1, dtype=torch.long)
    add = lambda picture, poses, thing=0: layers.append(Layer(picture, poses, zero + thing))
    add(opaque(sky), still())

    hill = 596 + 26 * grain(4, 1, width, 260, 4)[0] + 10 * ((x[0] - 250) / 300) ** 2
    tone = ramp(y, [(570, "#7f97a0"), (650, "#5f7f78")]) * (1 + 0.06 * grain(5, height, width, 30, 4))
    add(sprite(tone, y - hill.expand_as(y)), still())

    deep = ramp(y, [(horizon, "#5e9fae"), (760, "#2c7f96"), (930, "#2f8f9b"), (1040, "#74b9ad"), (shore + 20, "#b9d3bd")])
    near = ((y - horizon) / (height - horizon)).clamp(0.02, 1)
    phase = 38 * near.log() + 2.2 * grain(6, height, width, 200, 4)
    swell = (phase * 2.6).sin() + 0.6 * (phase * 6.1 + 3 * grain(7, height, width, 60, 3)).sin()
    crest = torch.sigmoid(6 * (swell + 0.5 * grain(8, height, width, 22, 3) - 1.5))
    water = deep * (1 + 0.10 * swell * (near / 0.2).clamp(0, 1)) + crest * near * 0.35
    add(sprite(water, y - horizon + 0.5), still())
    for seed, drift in ((20, 1.3), (23, -0.8)):  # shimmer: bright streaks that slide over the water
        streak = torch.sigmoid(5 * (grain(seed, height, width + 160, 16, 2) + 0.8 * grain(seed + 1, height, width + 160, 120, 2) - 1.9))
        wide_y = pixels(height, width + 160)[0]
        depth = ((wide_y - horizon) / (shore - horizon)).clamp(0, 1) * (wide_y < shore - 10)
        add(sprite(rgb("#f6fbf7").expand(3, height, width + 160), 0.42 * streak * depth**0.5), pose((-80 + drift * (TIME - 24)).view(1, -1), 0.0))

    names = []
    def thing(name):
        names.append(name)
        return len(names)

    for i, (span, first, second, px, py, dx, dy, tilt) in enumerate((
        (62, "#f0b429", "#2b5f9e", 105, 455, 1.6, -0.5, 0.35), (48, "#4caf6d", None, 520, 500, -1.2, 0.35, -0.4),
        (40, "#7b4fa3", "#f2e9dc", 330, 535, 0.9, 0.25, 0.2),
    )):
        number = thing(f"far kite {i + 1}")
        picture, centre = kite(span, first, second, 60 + i)
        sway = 3 * (TIME * 0.23 + i).sin()
        add(picture, pose((px + dx * TIME + sway).view(1, -1), py + dy * TIME, tilt + 0.1 * (TIME * 0.19 + i).sin(), centre=centre), number)

    rider = thing("surfer")
    large = thing("red kite")
    sx = 90 + 9.5 * TIME + 4 * (TIME * 0.3).sin()
    sy = 935 + 9 * (TIME * 0.42).sin() - 3 * (TIME * 0.17).sin()
    lean = 0.08 * (TIME * 0.21).sin() - 0.1
    wake_y, wake_x = pixels(120, 420)
    trail = (wake_x / 420) ** 1.5
    foam = torch.sigmoid(4 * (grain(30, 120, 420, 18, 4) + 2.6 * trail - 1.6 - ((wake_y - 78 + 20 * (1 - trail)) / (10 + 26 * (1 - trail))) ** 2))
    add(sprite(rgb("#fbfdfc").expand(3, 120, 420), foam * 0.47), pose(sx.view(1, -1), sy, 0.0, centre=(405, 84)))
    picture, foot, hand = surfer(40)
    rider_pose = pose(sx.view(1, -1), sy, lean, 0.95, centre=foot)
    spray_y, spray_x = pixels(90, 150)
    spray = torch.sigmoid(3 * (grain(33, 90, 150, 9, 3) + 1.2 - ((spray_x - 90) / 60) ** 2 * 2 - ((spray_y - 70) / 34) ** 2 * 2))
    # The kite: a fast figure through the sky, on lines to the rider's hands.
    hands = (rider_pose[0, :, :, :2] @ torch.tensor(hand, dtype=torch.float32) + rider_pose[0, :, :, 2]).T  # (2, frames)
    kx = curve((0, 175), (8, 190), (24, 430), (36, 560), (47, 470))[0]
    ky = curve((0, 470), (10, 250), (22, 170), (36, 330), (47, 215))[0]
    angle = torch.atan2(ky - hands[1], kx - hands[0])
    bank = angle + torch.pi / 2 + 1.5 * torch.gradient(angle)[0]
    picture_kite, centre = kite(330, "#d7261e", "#b3130f", 50)
    line_y, _ = pixels(8, 100)
    line = sprite(rgb("#3b4148").expand(3, 8, 100), 0.44 * (1.3 - (line_y - 4).abs()))
    kite_pose = pose(kx.view(1, -1), ky, bank, centre=centre)
    for corner in (-0.47, 0.47):
        at = torch.tensor([centre[0] + corner * 330, 0.44 * 330], dtype=torch.float32)
        tip = (kite_pose[0, :, :, :2] @ at + kite_pose[0, :, :, 2]).T
        length = ((tip - hands) ** 2).sum(0).sqrt()
        turn = torch.atan2(tip[1] - hands[1], tip[0] - hands[0])
        add(line, pose(hands[0].view(1, -1), hands[1], turn, length / 100, 1.0, centre=(0.0, 4.0)))
    add(picture, rider_pose, rider)
    add(sprite(rgb("#ffffff").expand(3, 90, 150), spray * 0.49), pose(sx.view(1, -1) - 40, sy + 4, 0.0, 1 + 0.12 * (TIME * 0.9).sin(), centre=(90, 74)))
    add(picture_kite, kite_pose, large)

    edge = shore + 14 * grain(9, 1, width, 180, 3)[0] + 0.05 * (x[0] - 360)
    sand = ramp(y, [(shore, "#b79f78"), (shore + 40, "#d9c39a"), (height, "#e6d3ac")])
    dunes = grain(10, height, width, 80, 4)
    sand = sand * (1 + 0.05 * dunes + 0.07 * grain(11, height, width, 5, 2) + 0.04 * (y / 9 + 5 * dunes).sin())
    foam = torch.exp(-(((y - edge - 4) / 9) ** 2)) * torch.sigmoid(2 * grain(12, height, width, 14, 3) + 1)
    add(sprite(sand * (1 - foam) + foam, y - edge.expand_as(y)), still())
    post_y, post_x = pixels(330, 40)
    wood = rgb("#7a5c40") * (0.75 + 0.4 * (1 - ((post_x - 15) / 14) ** 2).clamp(0, 1)) * (1 + 0.13 * (post_x * 0.9 + 4 * grain(13, 330, 40, 40, 3)).sin())
    add(sprite(wood, torch.minimum(13 - (post_x - 20).abs(), torch.minimum(post_y - 4, 326 - post_y)) + 0.5), still(588, 985))
    for k, bx in enumerate((20, 96, 150, 618, 662, 700)):  # tufts of beach grass
        blades_y, blades_x = pixels(120, 110)
        cover = torch.zeros(120, 110)
        for j in range(26):
            root, bend = 55 + 18 * np.sin(j * 2.4 + k), 34 * np.sin(j * 1.7 + k * 0.9)
            tall = 70 + 34 * np.sin(j * 3.1 + k)
            t = ((118 - blades_y) / tall).clamp(0, 1)
            cover = torch.maximum(cover, (2.4 * (1 - t) - (blades_x - root - bend * t * t).abs() + 0.6).clamp(0, 1) * (118 - blades_y < tall))
        tint = rgb("#6f7f3c") * (0.65 + 0.5 * (118 - blades_y) / 118) * (1 + 0.2 * grain(70 + k, 120, 110, 6, 2))
        add(sprite(tint, cover), still(bx - 55, 1172 + 14 * (k % 3)))
    return layers, names, height, width


# The monkey: landscape, 1280 × 720


def leaves(seed, h, w, count, tint):
    """A cluster of overlapping leaves with mid-ribs."""
    random = np.random.default_rng(seed)
    y, x = pixels(h, w)
    tone, alpha = torch.zeros(3, h, w), torch.zeros(h, w)
    for i in range(count):
        cx, cy = w / 2 + random.normal() * w * 0.19, h / 2 + random.normal() * h * 0.17
        turn, long = random.uniform(0, 6.28), random.uniform(22, 44)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        r = long * 0.32 * (1 - (u / long) ** 2).clamp(0, 1)
        cover = (r - v.abs() + 0.5).clamp(0, 1) * (u.abs() < long)
        light = (0.55 + 0.5 * i / count) * random.uniform(0.8, 1.2) * (1 + 0.25 * v / (long * 0.3)) - 0.12 * torch.exp(-(v**2))
        tone = tone * (1 - cover) + rgb(tint) * light * torch.tensor([random.uniform(0.8, 1.25), 1, random.uniform(0.6, 1.1)]).view(3, 1, 1) * cover
        alpha = alpha + (1 - alpha) * cover
    return sprite(tone, alpha)


def trunk(seed, h, w, colour, sway=8.0):
    """A tree trunk with bark: picture (h, w), the trunk fills it but for a margin."""
    y, x = pixels(h, w)
    middle = w / 2 + sway * (y / h * 3 + seed).sin()
    half = w / 2 - 14 + 5 * (y / h * 9 + seed).sin() + 10 * ((y / h - 0.5).abs() * 2) ** 3
    u = (x - middle) / half
    ridges = (u.clamp(-1, 1).asin() * 9 + 1.6 * grain(seed, h, w, 60, 3) + 0.6 * grain(seed + 1, h, w, 14, 3)).sin()
    light = 0.45 + 0.55 * (1 - (u + 0.3) ** 2 / 1.7).clamp(0, 1)
    moss = torch.sigmoid(3 * (grain(seed + 2, h, w, 90, 4) - 1.1 - 0.8 * u))
    tone = rgb(colour) * light * (1 + 0.28 * ridges + 0.10 * grain(seed + 3, h, w, 4, 2))
    tone = tone * (1 - 0.6 * moss) + 0.6 * moss * rgb("#5f7a35") * light
    return sprite(tone, (1 - u.abs()) * half + 0.5)


def branch(seed, length, thick, colour):
    """A branch that grows to the right from its thick end."""
    h, w = int(thick * 3), int(length)
    y, x = pixels(h, w)
    t = x / length
    r = thick / 2 * (1 - 0.62 * t)
    v = (y - h / 2 - 8 * (t * 5 + seed).sin()) / r
    light = 0.5 + 0.5 * (1 - (v + 0.45) ** 2 / 2).clamp(0, 1)
    tone = rgb(colour) * light * (1 + 0.2 * (v * 6 + 2 * grain(seed, h, w, 40, 3)).sin() + 0.1 * grain(seed + 1, h, w, 4, 2))
    return sprite(tone, torch.minimum((1 - v.abs()) * r, length - x) + 0.5)


def monkey():
    """Layers and names of the forest scene."""
    width, height = 1280, 720
    y, x = pixels(height, width)
    zero = torch.zeros(1, dtype=torch.long)
    layers = []
    add = lambda picture, poses, thing=0: layers.append(Layer(picture, poses, zero + thing))

    glow = torch.exp(-(((x - 820) / 420) ** 2 + ((y - 150) / 300) ** 2))
    far = ramp(y, [(0, "#9fb98a"), (300, "#6f9560"), (560, "#41663a"), (height, "#2a4527")]) * (1 + 0.18 * grain(1, height, width, 150, 5))
    far = far * (1 - 0.6 * glow) + 0.6 * glow * rgb("#eef0c4")
    add(opaque(far), still())
    random = np.random.default_rng(3)
    for i in range(11):  # far trunks in haze
        w = int(random.uniform(26, 70))
        haze = random.uniform(0.35, 0.7)
        picture = trunk(100 + i, height, w + 28, "#5b5a44")
        picture[:, :3] = picture[:, :3] * (1 - haze) + picture[:, 3:] * haze * rgb("#8fa87b")
        add(picture, still(60 + i * 118 + random.uniform(-40, 40), 0))
    for i in range(9):  # undergrowth
        picture = leaves(200 + i, 300, 420, 120, "#3f6b2f")
        picture[:, :3] *= 0.75
        add(picture, still(-120 + i * 150, 430 + 40 * (i % 2)))

    add(branch(7, 560, 46, "#6b5138"), pose(torch.full((1, FRAMES), -30.0), 330.0, 0.05, centre=(0, 69)))
    right = branch(9, 620, 54, "#6b5138")
    add(right.flip(3), pose(torch.full((1, FRAMES), 1310.0), 420.0, 0.06, centre=(620, 81)))

    names = ["monkey"]
    fur, dark, skin = "#7a5230", "#5a3a22", "#c99a74"
    # The leap: crouch on the left branch, fly, land on the right one.
    hip_x = curve((0, 205), (5, 206), (11, 196), (15, 222), (38, 985), (42, 1012), (47, 1012))
    hip_y = curve((0, 262), (5, 264), (11, 282), (15, 236), (21, 158), (25, 142), (30, 165), (38, 322), (42, 352), (47, 338))
    lean = curve((0, 0.35), (6, 0.4), (11, 0.75), (16, 1.05), (26, 1.25), (36, 0.75), (42, 0.55), (47, 0.35))  # of the torso, forwards
    at = lambda base, point: (base[..., :2] @ torch.tensor(point, dtype=torch.float32).view(2, 1)).squeeze(-1) + base[..., 2]

    def joined(base, point, picture, joint, turn):
        """Pose of a part whose joint sits at `point` of the part `base` stands for."""
        place = at(base, point)
        return pose(place[..., 0], place[..., 1], turn, centre=joint)

    torso, centre = ball(50, 78, fur, 21, tip=None)
    torso_pose = pose(hip_x, hip_y, lean, centre=(centre[0], centre[1] + 52))
    neck, hip = (centre[0] + 4, centre[1] - 62), (centre[0], centre[1] + 50)
    shoulder = (centre[0] + 6, centre[1] - 44)
    head, head_centre = ball(41, 39, fur, 23)
    face, face_centre = ball(27, 29, skin, 25, fur=0.03)
    muzzle, muzzle_centre = ball(18, 13, "#d9b08c", 27, fur=0.02)
    ear, ear_centre = ball(12, 13, skin, 29, fur=0.03)
    eye, eye_centre = ball(4.5, 5.0, "#1a120c", 31, fur=0.0)
    upper, upper_joint = limb(66, 19, 14, fur, 41)
    lower, lower_joint = limb(70, 14, 10, fur, 43, end=skin)
    thigh, thigh_joint = limb(62, 25, 17, fur, 45)
    shin, shin_joint = limb(62, 16, 11, fur, 47, end=skin)
    far_side = lambda picture: torch.cat([picture[:, :3] * 0.72, picture[:, 3:]], 1)

    # Angles are of the screen, clockwise from hanging down: negative reaches forwards (to the right).
    arm = curve((0, -0.5), (6, -0.5), (11, 0.7), (16, -1.9), (26, -1.75), (34, -1.5), (40, -0.9), (47, -0.55))
    fore = curve((0, -0.7), (6, -0.8), (11, 0.2), (16, -2.1), (26, -1.9), (34, -1.75), (40, -1.2), (47, -0.8))
    leg = curve((0, -1.3), (6, -1.35), (11, -1.55), (15, 0.5), (20, 1.0), (27, 0.7), (34, -0.9), (40, -1.6), (47, -1.35))
    calf = curve((0, 0.55), (6, 0.6), (11, 0.85), (15, 0.75), (20, 1.5), (27, 1.4), (34, 0.1), (40, 0.5), (47, 0.5))

    def arm_of(shift, shade):
        a, f = arm + shift, fore + 1.3 * shift
        first = joined(torso_pose, shoulder, upper, upper_joint, a)
        add(shade(upper), first, 1)
        add(shade(lower), joined(first, (upper_joint[0], upper_joint[1] + 66), lower, lower_joint, f), 1)

    def leg_of(shift, shade):
        first = joined(torso_pose, hip, thigh, thigh_joint, leg + shift)
        second = joined(first, (thigh_joint[0], thigh_joint[1] + 62), shin, shin_joint, calf + shift)
        add(shade(shin), second, 1)
        add(shade(thigh), first, 1)

    base, point, bend = torso_pose, (centre[0] - 20, centre[1] + 66), curve((0, 2.3), (11, 2.0), (18, 1.35), (28, 1.5), (36, 2.2), (47, 2.4))
    for k in range(7):  # the tail: short limbs, each bent further
        piece, joint = limb(30, 9 - 0.7 * k, 8.4 - 0.7 * k, dark, 60 + k)
        wave = 0.28 * (TIME * 0.33 - 0.8 * k).sin() + 0.13 * k
        base = joined(base, point, piece, joint, bend - 0.5 + wave)
        add(piece, base, 1)
        point = (joint[0], joint[1] + 30)
    arm_of(0.28, far_side)
    leg_of(0.3, far_side)
    add(torso, torso_pose, 1)
    belly, belly_centre = ball(30, 56, "#a9825c", 33)
    add(belly, joined(torso_pose, (centre[0] + 16, centre[1] + 4), belly, belly_centre, lean), 1)
    gaze = curve((0, 0.1), (8, -0.05), (16, 0.25), (28, 0.35), (38, 0.3), (47, 0.05))
    head_pose = joined(torso_pose, (neck[0] + 10, neck[1] - 14), head, (head_centre[0] - 6, head_centre[1] + 22), gaze)
    add(far_side(ear), joined(head_pose, (head_centre[0] + 26, head_centre[1] - 12), ear, ear_centre, gaze), 1)
    add(head, head_pose, 1)
    add(ear, joined(head_pose, (head_centre[0] - 30, head_centre[1] - 6), ear, ear_centre, gaze), 1)
    add(face, joined(head_pose, (head_centre[0] + 13, head_centre[1] + 3), face, face_centre, gaze), 1)
    add(muzzle, joined(head_pose, (head_centre[0] + 24, head_centre[1] + 16), muzzle, muzzle_centre, gaze), 1)
    for ex in (9, 27):
        add(eye, joined(head_pose, (head_centre[0] + ex, head_centre[1] - 4), eye, eye_centre, gaze), 1)
    leg_of(0.0, lambda picture: picture)
    arm_of(0.0, lambda picture: picture)

    add(trunk(11, height, 178, "#6e5238"), still(560, 0))  # in front: the monkey passes behind it
    for i, (px, py, tint) in enumerate(((-90, -150, "#4f8a35"), (150, -190, "#5b9a3c"), (900, -180, "#5b9a3c"), (1080, -120, "#4a8030"), (-160, 60, "#447a30"), (1150, 90, "#57923a"), (470, -240, "#4f8a35"))):
        add(leaves(300 + i, 330, 380, 110, tint), still(px, py))
    for k in range(15):  # the fence
        h, w = 190, 66
        sy, sx = pixels(h, w)
        wood = rgb("#8d7355") * (0.8 + 0.25 * (1 - ((sx - 26) / 30) ** 2).clamp(0, 1)) * (1 + 0.09 * (sx * 0.7 + 3 * grain(400 + k, h, w, 60, 3)).sin() + 0.05 * grain(430 + k, h, w, 4, 2))
        add(sprite(wood * (0.85 + 0.3 * ((k * 7) % 5) / 5), torch.minimum(26 - (sx - 33).abs(), sy - 8 - (sx - 33).abs() * 0.6) + 0.5), still(-20 + k * 90, 556 + 6 * ((k * 5) % 3)))
    rail_y, rail_x = pixels(40, width)
    for top in (604, 668):
        wood = rgb("#7d654a") * (0.7 + 0.4 * (1 - ((rail_y - 16) / 20) ** 2).clamp(0, 1)) * (1 + 0.08 * (rail_y * 0.8 + 3 * grain(450 + top, 40, width, 120, 3)).sin())
        add(sprite(wood, 15 - (rail_y - 20).abs() + 0.5), still(0, top))
    return layers, names, height, width


def render(layers, height, width):
    """Frames uint8 (T, H, W, 3) and owner uint8 (1, T, H, W), frame by frame."""
    frames, owners = [], []
    for t in tqdm(range(FRAMES), desc="rendering"):
        now = [Layer(layer.picture, layer.poses[:, t : t + 1], layer.thing, layer.backdrop) for layer in layers]
        light = torch.tensor([[1 + 0.015 * np.sin(t * 0.2)]])
        frame, owner = composite(now, height, width, light)
        frames.append((frame[0, 0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
        owners.append(owner)
    return np.stack(frames), torch.cat(owners, 1)


def points(masks, count, seed=0):
    """Where tracks start: (1, n, 3) frame, x, y; `count` on each thing and twice that on what is still, at random times."""
    random = np.random.default_rng(seed)
    starts = []
    for thing in range(int(masks.max()) + 1):
        places = np.argwhere(masks == thing)
        chosen = places[random.choice(len(places), min(len(places), count * (1 if thing else 2)), replace=False)]
        starts.append(chosen[:, [0, 2, 1]] + [0, 0.5, 0.5])
    return torch.from_numpy(np.concatenate(starts)).float().unsqueeze(0)


def write(name, scene, folder):
    """NAME.mp4 and NAME.npz in `folder`."""
    layers, names, height, width = scene()
    layers = [Layer(layer.picture, layer.poses.expand(1, FRAMES, 2, 3), layer.thing) for layer in layers]
    frames, owner = render(layers, height, width)
    masks = masks_of(layers, owner)[0].numpy()
    tracks, visible, thing = follow(layers, owner, points(masks, 40))
    with replacing(folder / f"{name}.mp4") as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("h264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20", "preset": "slow", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    with replacing(folder / f"{name}.npz") as temporary:
        np.savez_compressed(temporary, masks=masks, names=np.array(names), tracks=tracks[0].numpy(), visible=visible[0].numpy(), object=thing[0].numpy())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render the clips in videos/ with their ground truth")
    parser.add_argument("names", nargs="*", default=["kitesurfing", "monkey"], help="kitesurfing, monkey (default: both)")
    parser.add_argument("-o", dest="folder", type=Path, default=Path(__file__).parents[2] / "videos")
    arguments = parser.parse_args()
    for name in arguments.names:
        write(name, {"kitesurfing": kitesurfing, "monkey": monkey}[name], arguments.folder)
