"""Prediction against its baselines, and the leak of stock transformers: python -m
benchmarks.hidden_tokens [--encoder NAME]

Cosine similarity with the layer-normalised features of the whole clip at the hidden tokens, mean ±
standard deviation over clips, and the share of tokens where the prediction has the higher cosine
than every baseline. The baselines copy features of visible places that attended to the whole clip,
the hidden part too: an advantage over the prediction. "same place" is compared where there is one.

"changing" are the same means at the hidden tokens that change from one step to the next: in
rendered scenes those that a moving object covers or uncovers; in real clips the tenth of the clip's
tokens whose target has the lowest cosine with that of the step before.

Rendered scenes have 8 frames of 160×160 pixels. The two shipped clips are taken as in the README's
figures: every fourth frame, short side 256. Each real clip gives three stretches of 8 frames,
every second one, short side 160.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks import pages
from demo.render.scenes import unseen_scenes

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "clips"
SIZE = 160
TENTH = 0.1  # of the tokens
NAME = "benchmarks.hidden_tokens"  # of the comments around its tables
GUESSES = "prediction", "mean", "nearest", "same place"
HEAD = ["clips", "hidden", *GUESSES, "beats all at", *(f"changing: {name}" for name in GUESSES)]


def hidden(grid, seed):
    """The masks of the table; random ones are drawn anew for each clip."""
    return {
        **{f"block, {share} %": vj.masks.block(grid, share / 100) for share in (25, 60, 80)},
        "multiblock, short": vj.masks.multiblock(grid, "short", seed),
        "multiblock, long": vj.masks.multiblock(grid, "long", seed),
        "tokens, 60 %": vj.masks.tokens(grid, 0.6, seed),
        "future, 50 %": vj.masks.future(grid, grid[0] // 2 - 1),
    }


def covered_or_uncovered(masks, grid):
    """Tokens that show what moves in this step and not in the step before (for the first: after
    it), or vice versa: bool (steps, rows, columns).

    A token shows it if most of its area does, in the mean of its two frames.
    masks: (frames, H, W), 0 for what is still.
    """
    steps = torch.from_numpy(masks > 0).float().unflatten(0, (grid[0], -1)).mean(1, keepdim=True)
    shown = F.adaptive_avg_pool2d(steps, grid[1:])[:, 0] > 0.5
    return _with_neighbour(shown, torch.ne).numpy()


def most_changed(target):
    """The tenth of the tokens whose features (steps, rows, columns, channels) have the lowest
    cosine with those of the step before (for the first: after it): bool (steps, rows, columns).
    """
    cosine = _with_neighbour(target, lambda a, b: F.cosine_similarity(a, b, dim=-1)).numpy()
    return cosine <= np.quantile(cosine, TENTH)


def _with_neighbour(values, compare):
    """compare(step, step before) for each step; the first with the one after it."""
    return torch.cat([compare(values[:1], values[1:2]), compare(values[1:], values[:-1])])


def rows(label, encoder, clips, size=SIZE):
    """Rows of the table, texts, one for each mask.

    clips: iterable of (array or Video, masks of what moves or None).
    """
    found = []  # of each clip: {mask: (means, share that beats all, means where it changes)}
    for seed, (clip, masks) in enumerate(tqdm(clips, desc=label, leave=False)):
        held = encoder.hold(clip, size)
        grid, target = held.grid, held.whole.values
        recovered = {mask: held.recover(where) for mask, where in hidden(grid, seed).items()}
        changes = most_changed(target) if masks is None else covered_or_uncovered(masks, grid)
        found.append(
            {
                mask: (one.means(), one.beaten["all"], one.means(where=changes))
                for mask, one in recovered.items()
            }
        )
    for mask in found[0]:
        every, beaten, changing = zip(*(recovered[mask] for recovered in found), strict=True)
        yield [
            label,
            mask,
            *(cell([means[name] for means in every]) for name in GUESSES),
            f"{np.mean(beaten):.0%}",
            *(cell([means[name] for means in changing]) for name in GUESSES),
        ]


def cell(values):
    """Mean ± standard deviation, NaN ignored; only the value for a single clip; – if empty."""
    values = np.array(values)[np.isfinite(values)]
    if not len(values):
        return "–"
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def leak(encoder, clip):
    """Relative L2 change of visible features and prediction when only hidden pixels are repainted:
    stock transformers, and ours.
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
    pages.add_into(parser)
    arguments = parser.parse_args()
    encoder = vj.load_encoder(arguments.encoder, dtype=torch.float32)
    rendered = unseen_scenes(arguments.scenes, 8, SIZE, SIZE)
    found = [*rows("scenes", encoder, ((scene.frames, scene.masks) for scene in rendered))]
    for name in ("kitesurfing", "monkey"):
        clip = vj.read_video(ROOT / "videos" / f"{name}.mp4", every=4)
        found += rows(name, encoder, [(clip, None)], size=None)
    names = "dog_ball*.mp4", "letter_blocks*.mp4", "bedroom*.mp4", "davis/*/*.mp4"
    files = [file for name in names for file in sorted(SHARED.glob(name))]
    parts = ((vj.read_video(f, at, every=2, count=8), None) for f in files for at in (0, 16, 32))
    if files:
        found += rows("real clips", encoder, parts)
    about = f"{encoder.name}; {arguments.scenes} rendered scenes that no training saw"
    if files:
        about += f"; three stretches each of {len(files)} real clips, "
        about += ", ".join(file.stem.split("_")[0] for file in files)
    changes = np.array([leak(encoder, scene.frames) for scene in unseen_scenes(8, 8, SIZE, SIZE)])
    names = "visible features, stock", "visible features, ours", "prediction, ours"
    leaks = [[name, cell(change)] for name, change in zip(names, changes.T, strict=True)]
    head = ["75 % hidden, 8 scenes, only hidden pixels repainted", "relative L2 change"]
    pages.publish(
        {
            NAME: f"{about}.\n\n{pages.table(HEAD, found)}",
            f"{NAME} leak": f"{encoder.name}.\n\n{pages.table(head, leaks)}",
        },
        arguments.into,
    )


if __name__ == "__main__":
    main()
