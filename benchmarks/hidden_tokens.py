"""Prediction against its baselines, and the leak of stock transformers: python -m
benchmarks.hidden_tokens [--encoder NAME]

Mean cosine with the layer-normalised features of the whole clip at the hidden tokens, mean ±
standard deviation over clips, and the share of tokens where the prediction has the higher cosine.
The baselines copy features of visible places that saw the whole clip, the hidden part too: an
advantage over the prediction. "same place" is compared where there is one. Rendered scenes have 8
frames of 160×160 pixels. Of other clips 8 frames are taken, every second, at three places, short
side 160.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import vjepa_utils as vj
from demo.scenes import unseen_scenes

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "clips"
SIZE = 160


def hidden(grid, seed):
    """The masks of the table; random ones are drawn anew for each clip."""
    return {
        **{f"block {share} %": vj.masks.block(grid, share / 100) for share in (25, 60, 80)},
        "multiblock short": vj.masks.multiblock(grid, "short", seed),
        "multiblock long": vj.masks.multiblock(grid, "long", seed),
        "tokens 60 %": vj.masks.tokens(grid, 0.6, seed),
        "future 50 %": vj.masks.future(grid, grid[0] // 2 - 1),
    }


def table(encoder, clips, total):
    """Print the table of `total` clips: an iterable of arrays or Videos."""
    found = []
    for seed, clip in enumerate(tqdm(clips, total=total, leave=False)):
        found.append(
            encoder.recover(clip, hidden(encoder.grid(clip, SIZE, "clip"), seed), size=SIZE)
        )
    for mask in found[0]:
        each = [recoveries[mask] for recoveries in found]
        cells = []
        for name in each[0].means():
            means = np.array([one.means()[name] for one in each])
            beaten = (
                np.mean([one.beaten[name] for one in each]) if name in each[0].beaten else np.nan
            )
            text = f"{means.mean():.3f} ± {means.std():.3f}" + (
                f" {beaten:4.0%}" if beaten == beaten else ""
            )
            cells.append("–" if np.isnan(means).all() else text)
        everything = np.mean([one.beaten["all"] for one in each])
        print(
            f"  {mask:17}{cells[0]:16}", *(f"{cell:20}" for cell in cells[1:]), f"{everything:4.0%}"
        )


def leak(encoder, clip):
    """Relative L2 change of visible features and prediction when only hidden pixels are repainted:
    stock way, and ours.
    """
    grid = encoder.grid(clip, SIZE, "clip")
    mask = vj.masks.block(grid, 0.75)
    where = vj.masks.pixels(mask, *clip.shape[1:3]).repeat(2, 0)[..., None]
    noise = np.random.default_rng(0).integers(0, 256, clip.shape, np.uint8)
    both = clip, np.where(where, noise, clip)
    change = lambda a, b: ((b - a).norm() / a.norm()).item()
    # encode all, then gather
    stock = [encoder.encode(each, "clip", SIZE).values[~mask] for each in both]
    ours = [encoder.recover(each, mask, size=SIZE) for each in both]
    return (
        change(*stock),
        change(ours[0].context, ours[1].context),
        change(ours[0].predicted, ours[1].predicted),
    )


def main():
    parser = argparse.ArgumentParser(
        description="Prediction against its baselines, and the leak of stock transformers"
    )
    parser.add_argument("--encoder", default="vjepa2-demo")
    parser.add_argument("--scenes", type=int, default=50)
    arguments = parser.parse_args()
    encoder = vj.load_encoder(arguments.encoder, dtype=torch.float32)
    # a share of the tokens
    columns = [f"{name:13} beats" for name in ("mean", "nearest", "same place")]
    print(
        f"{encoder.name}\n  {'':17}{'prediction':16}",
        *(f"{column:20}" for column in columns),
        "beats all",
    )
    print(f"{arguments.scenes} unseen rendered scenes")
    table(
        encoder,
        (scene.frames for scene in unseen_scenes(arguments.scenes, 8, SIZE, SIZE)),
        arguments.scenes,
    )
    files = [ROOT / "videos" / "kitesurfing.mp4", ROOT / "videos" / "monkey.mp4"]
    names = "dog_ball*.mp4", "letter_blocks*.mp4", "bedroom*.mp4", "davis/*/*.mp4"
    files += [file for name in names for file in sorted(SHARED.glob(name))]
    for file in files:
        print(file.stem)
        table(encoder, [vj.read_video(file, start, every=2, count=8) for start in (0, 16, 32)], 3)
    changes = np.array([leak(encoder, scene.frames) for scene in unseen_scenes(8, 8, SIZE, SIZE)])
    print("Only hidden pixels repainted (75 % hidden, 8 scenes), relative L2 change:")
    for name, change in zip(
        ("visible features, stock", "visible features, ours", "prediction, ours"),
        changes.T,
        strict=True,
    ):
        print(f"  {name:25}{change.mean():.3f} ± {change.std():.3f}")


if __name__ == "__main__":
    main()
