"""What finer maps are worth: python -m benchmarks.finer_maps [--encoder NAME] [--scenes N]

Rendered scenes of 256×256 pixels with textures that no training used; a row for each stride, and
for how maps are brought to the frame, bilinearly or guided by it.

- similarity: cosine with a token in the middle of a moving thing, thresholded where that agrees
  best with its true mask: F of the outline, J of the area (as DAVIS measures them);
- masks: the true mask of the first frame carried through the clip, F and J of the later frames;
- tracks: δ_avg of the visible points, without a head.
"""

import argparse
import time

import numpy as np
import torch
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks import pages
from benchmarks.point_tracking import pick
from demo.render.scenes import unseen_scenes
from vjepa_utils.guided import guided, upsampled
from vjepa_utils.segmentation.propagation import boundary_agreement, overlap
from vjepa_utils.tracking.metrics import THRESHOLDS

FRAMES, SIDE, LEAST, SEED = 6, 256, 0.01, 11  # least: share of the picture that a thing covers
STRIDES = 16, 8, 4


def best(score, mask):
    """Best F and best J over 32 thresholds of a score (H, W)."""
    levels = np.quantile(score, np.linspace(0.5, 0.995, 32))
    outlines = [boundary_agreement(score > level, mask) for level in levels]
    return max(outlines), max(overlap(score > level, mask) for level in levels)


def middle(mask):
    """The pixel x, y of a mask that is nearest to the mean of its pixels."""
    y, x = np.nonzero(mask)
    nearest = ((y - y.mean()) ** 2 + (x - x.mean()) ** 2).argmin()
    return x[nearest] + 0.5, y[nearest] + 0.5


def measure(scene, thing, features, edges):
    """{measure: value} of one scene, whose `thing` is to be outlined."""
    similar = vj.comparison.similarity(features, middle(scene.masks[0] == thing), 0)[:1]
    to_frame = (lambda maps: guided(maps, scene.frames[0], features)) if edges else None
    to_frame = to_frame or (lambda maps: upsampled(maps, (SIDE, SIDE), features))
    score = to_frame(torch.as_tensor(similar, dtype=torch.float32))[0].numpy()
    outline, area = best(score, scene.masks[0] == thing)
    first = (scene.masks[0] == thing).astype(np.uint8)
    masks = vj.segment(scene.frames, features, masks=first, edges=edges).labels[1:]
    true = scene.masks[1:] == thing
    pairs = [(ours == 1, real) for ours, real in zip(masks, true, strict=True) if real.any()]
    return {
        "F, similarity": outline,
        "J, similarity": area,
        "F, masks": np.mean([boundary_agreement(*pair) for pair in pairs]),
        "J, masks": np.mean([overlap(*pair) for pair in pairs]),
    }


def tracked(scene, features, starts):
    """δ_avg of points whose side of a picture is 256 pixels, as TAP-Vid has it."""
    tracks, visible, _ = scene.follow(starts)
    ours = vj.track(scene.frames, starts, features)
    distance = np.linalg.norm(ours.xy - tracks, axis=-1)[:, 1:][visible[:, 1:]]
    return np.mean([(distance < limit).mean() for limit in THRESHOLDS])


def main():
    parser = argparse.ArgumentParser(description="Outlines and tracks by stride")
    parser.add_argument("--encoder", default="vjepa2-demo", help="a name (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=12, help="(default: %(default)s)")
    pages.add_into(parser)
    arguments = parser.parse_args()
    encoder = vj.load_encoder(arguments.encoder)
    found = {(stride, edges): [] for stride in STRIDES for edges in (False, True)}
    seconds = {stride: 0.0 for stride in STRIDES}
    generator, measured = np.random.default_rng(SEED), 0
    scenes = unseen_scenes(8 * arguments.scenes, FRAMES, SIDE, SIDE, seed=SEED)
    with tqdm(total=arguments.scenes, desc="scenes") as bar:
        for scene in scenes:
            sizes = np.bincount(scene.masks[0].ravel(), minlength=2)[1:]
            if sizes.max() < LEAST * SIDE**2:
                continue
            thing, starts = int(sizes.argmax()) + 1, pick(scene, generator)
            for stride in STRIDES:
                begin = time.perf_counter()
                features = encoder.encode(scene.frames, "frame", SIDE, stride=stride)
                seconds[stride] += time.perf_counter() - begin
                delta = tracked(scene, features, starts)
                for edges in (False, True):
                    row = measure(scene, thing, features, edges)
                    found[stride, edges].append([*row.values(), delta])
            measured += 1
            bar.update()
            if measured == arguments.scenes:
                break
    names = [*row, "δ_avg, tracks"]
    rows = []
    for (stride, edges), values in found.items():
        means = np.mean(values, 0)
        rows.append([str(stride), "guided" if edges else "bilinear", *(f"{m:.3f}" for m in means)])
        rows[-1].append(f"{seconds[stride] / seconds[STRIDES[0]]:.1f}×")
    head = ["stride", "to the frame", *names, "time to encode"]
    text = f"`{encoder.name}`, {measured} scenes of {FRAMES} frames; means.\n\n"
    pages.publish({"benchmarks.finer_maps": text + pages.table(head, rows)}, arguments.into)


if __name__ == "__main__":
    main()
