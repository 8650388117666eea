"""How far do features carry a point? python -m benchmarks.point_tracking [--heads FOLDER …]

TAP-Vid's measures in per cent, mean ± standard deviation over 100 scenes of 24 frames of 256×256
pixels, with textures that no training used: 30 points picked in the first frame, half on what moves
in the world. Then where each tracker fails: δ_avg of the visible points, pooled over the scenes.
Slow variants are measured on the first 20 scenes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks import pages
from benchmarks.baselines import PatchColours, random_weights
from demo.render.scenes import unseen_scenes
from vjepa_utils.tracking.head import load_head
from vjepa_utils.tracking.metrics import THRESHOLDS, tapvid_metrics
from vjepa_utils.tracking.points import (
    RASTER,
    ZERO_SHOT_SIZE,
    Tracks,
    track,
)

ROOT = Path(__file__).parent.parent
SCENES, FEWER, FRAMES, POINTS, SEED = 100, 20, 24, 30, 7
# pixels to another layer; to a look-alike; its difference as a share of the patch's variance
EDGE, FAR, ALIKE = (
    4,
    16,
    0.2,
)


def pick(scene, generator):
    """30 points (0, x, y) of the first frame, half on what moves where something does."""
    starts = []
    for chosen in (scene.masks[0] > 0, scene.masks[0] >= 0):
        y, x = np.nonzero(chosen if chosen.any() else ~chosen)
        which = generator.integers(len(y), size=POINTS // 2)
        starts.append(np.stack([np.zeros(len(which)), x[which] + 0.5, y[which] + 0.5], 1))
    return np.concatenate(starts).astype(np.float32)


def kinds(scene, starts, visible, thing):
    """Which points and frames (points, frames) are of each kind."""
    owner = torch.from_numpy(scene.owner[0]).float()[None]
    x, y = starts[:, 1:].astype(int).T
    most, least = (sign * F.max_pool2d(sign * owner, 2 * EDGE + 1, 1, EDGE)[0] for sign in (1, -1))
    hidden_before = np.maximum.accumulate(~visible, 1)
    every = np.ones_like(visible)
    return {
        "still": every & (thing == 0)[:, None],
        "moving": every & (thing > 0)[:, None],
        "back after occlusion": hidden_before,
        f"within {EDGE} px of an edge": every & (most != least).numpy()[y, x][:, None],
        "has a look-alike": every & look_alikes(scene.frames[0], x, y)[:, None],
    }


def look_alikes(frame, x, y, side=11):
    """(points,) bool: does a window of 11×11 pixels elsewhere differ little from the one around the
    point?
    """
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    padded = F.pad(picture, [side // 2] * 4, mode="reflect")
    # (points, 3, 11, 11)
    windows = torch.stack(
        [padded[0, :, v : v + side, u : u + side] for u, v in zip(x, y, strict=True)]
    )
    norm = F.conv2d(padded.square(), torch.ones(1, 3, side, side))[0]
    apart = (
        norm - 2 * F.conv2d(padded, windows)[0] + windows.square().sum((1, 2, 3))[:, None, None]
    ) / windows[0].numel()
    v, u = torch.meshgrid(torch.arange(len(frame)), torch.arange(frame.shape[1]), indexing="ij")
    near = (
        (u - torch.tensor(x)[:, None, None]) ** 2 + (v - torch.tensor(y)[:, None, None]) ** 2
    ) < FAR**2
    variance = windows.var((2, 3)).mean(1) + 4  # for noise
    return (apart.masked_fill(near, torch.inf).amin((1, 2)) < ALIKE * variance).numpy()


class Table:
    """Measures of trackers, row by row, under a heading."""

    def __init__(self, about):
        self.about, self.rows, self.shares = about, [], {}

    def measure(self, label, clips, follow):
        """Add the row of one tracker.

        Args:
            clips: list of (video, queries, tracks, visible, kinds).  follow: the number of a clip
                to `Tracks`.
        """
        rows, pooled = [], {"all": []}
        for number, (_, queries, tracks, visible, of_kind) in enumerate(clips):
            found = follow(number)
            scale = RASTER / np.array(found.size[::-1])
            asked = np.searchsorted(found.frames, queries[:, 0])
            metrics = tapvid_metrics(
                np.concatenate([asked[:, None], queries[:, :0:-1]], 1)[None],
                ~visible[None],
                (tracks * scale)[None],
                ~found.visible[None],
                (found.xy * scale)[None],
                "first",
            )
            names = (
                "average_pts_within_thresh",
                "average_jaccard",
                "occlusion_accuracy",
                *(f"pts_within_{d}" for d in THRESHOLDS),
            )
            rows.append([100 * metrics[name][0] for name in names])
            distance = np.linalg.norm((found.xy - tracks) * scale, axis=-1)
            within = np.mean([distance < d for d in THRESHOLDS], 0)
            counts = visible & (np.arange(visible.shape[1]) > asked[:, None])
            for kind, mask in {"all": counts, **of_kind}.items():
                pooled.setdefault(kind, []).append(within[counts & mask])
        mean, deviation = np.nanmean(rows, 0), np.nanstd(rows, 0)
        cells = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean[:3], deviation[:3], strict=True)]
        if len(rows) == 1:
            cells = [f"{m:.1f}" for m in mean[:3]]
        self.rows.append([label, *cells, *(f"{m:.1f}" for m in mean[3:])])
        self.shares[label] = {
            kind: 100 * np.mean(np.concatenate(parts)) for kind, parts in pooled.items()
        }

    def text(self):
        """In Markdown: the measures of each tracker."""
        head = ["", "δ_avg", "AJ", "OA", *(f"δ_{d}" for d in THRESHOLDS)]
        return f"{self.about}\n\n{pages.table(head, self.rows)}"

    def failures(self, clips):
        """In Markdown: δ_avg of each kind of point, with how many points there are."""
        kinds = [*clips[0][4]]
        counts = {
            kind: sum((clip[4][kind] & clip[3]).any(1).sum() for clip in clips) for kind in kinds
        }
        head = ["δ_avg of the points that are", *(f"{kind} ({counts[kind]})" for kind in kinds)]
        rows = [
            [label, *(f"{shares[kind]:.1f}" for kind in kinds)]
            for label, shares in self.shares.items()
        ]
        return pages.table(head, rows)


def scene_clips(count):
    """The first `count` unseen scenes as (video, queries, tracks, visible, kinds), see
    `Table.measure`.
    """
    generator, clips = np.random.default_rng(SEED), []
    for scene in tqdm(
        unseen_scenes(count, FRAMES, RASTER, RASTER, seed=SEED),
        total=count,
        desc="rendering",
        leave=False,
    ):
        starts = pick(scene, generator)
        tracks, visible, thing = scene.follow(starts)
        clips.append(
            (
                vj.as_video(scene.frames),
                starts,
                tracks,
                visible,
                kinds(scene, starts, visible, thing),
            )
        )
    return clips


def stays(video, queries):
    xy = np.repeat(queries[:, None, 1:], len(video), 1)
    size = video.height, video.width
    return Tracks(xy, np.ones(xy.shape[:2], bool), queries, video.indices, size, "no motion")


def main():
    parser = argparse.ArgumentParser(
        description="TAP-Vid's measures on rendered scenes and the shipped clips"
    )
    parser.add_argument(
        "--heads",
        nargs="*",
        default=[],
        help="folders of further heads, measured on the first scenes",
    )
    parser.add_argument("--scenes", type=int, default=SCENES)
    pages.add_into(parser)
    arguments = parser.parse_args()
    encoder = vj.load_encoder(dtype=torch.float32)
    head, others = load_head(), [load_head(name) for name in arguments.heads]
    clips = scene_clips(arguments.scenes)
    few = clips[:FEWER]

    def zero_shot(encoder, clips, size=ZERO_SHOT_SIZE, layer=None):
        return lambda i: track(clips[i][0], clips[i][1], encoder, None, size, layer)

    table = Table(
        f"{len(clips)} rendered scenes that no training saw, queries first; zero-shot encoded with "
        f"a short side of {ZERO_SHOT_SIZE} pixels, with the head of {head.config['size']}."
    )
    table.measure("no motion", clips, lambda i: stays(*clips[i][:2]))
    for cells in (1, 4):
        table.measure(
            f"patch colours, {cells}×{cells}", clips, zero_shot(PatchColours(encoder, cells), clips)
        )
    table.measure("random weights", clips, zero_shot(random_weights(encoder), clips))
    image = vj.load_encoder("dino-demo", dtype=torch.float32)
    for each in (image, encoder):
        table.measure(f"{each.name}, zero-shot", clips, zero_shot(each, clips))
    table.measure(
        f"{encoder.name}, {head.name}", clips, lambda i: track(*clips[i][:2], encoder, head)
    )
    texts = [table.text(), table.failures(clips)]

    features = [
        encoder.encode(clip[0], "frame", RASTER) for clip in tqdm(few, desc="encoding", leave=False)
    ]
    more = Table(f"The first {len(few)} of them, encoded at {RASTER}×{RASTER}.")
    for each in (None, head, *others):
        more.measure(
            each.name if each else "zero-shot",
            few,
            lambda i, each=each: track(*few[i][:2], features[i], each),
        )
    for layer in (encoder.depth // 3, 2 * encoder.depth // 3):
        more.measure(
            f"zero-shot, block {layer} of {encoder.depth}",
            few,
            zero_shot(encoder, few, RASTER, layer),
        )
    texts.append(more.text())

    for name in ("kitesurfing", "monkey"):
        video, truth = (
            vj.read_video(ROOT / "videos" / f"{name}.mp4"),
            np.load(ROOT / "videos" / f"{name}.npz"),
        )
        first = truth["visible"].argmax(1)
        queries = np.concatenate(
            [first[:, None], truth["tracks"][np.arange(len(first)), first]], 1
        ).astype(np.float32)
        size = np.array([video.width, video.height])
        inside = ((queries[:, 1:] >= 0) & (queries[:, 1:] <= size)).all(1)
        moves = (truth["object"] > 0)[inside, None] & np.ones(len(video), bool)
        clip = [
            (
                video,
                queries[inside],
                truth["tracks"][inside],
                truth["visible"][inside],
                {"still": ~moves, "moving": moves},
            )
        ]
        table = Table(f"`videos/{name}.mp4`, {len(video)} frames, {inside.sum()} points.")
        table.measure("no motion", clip, lambda i, clip=clip: stays(*clip[i][:2]))
        for each in (None, head):
            table.measure(
                each.name if each else "zero-shot",
                clip,
                lambda i, clip=clip, each=each: track(*clip[i][:2], encoder, each),
            )
        texts += [table.text(), table.failures(clip)]
    pages.publish({"benchmarks.point_tracking": "\n\n".join(texts)}, arguments.into)


if __name__ == "__main__":
    main()
