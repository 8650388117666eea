"""The figures of the README: python make_figures.py, or python -m vjepa_utils figures."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import vjepa_utils as vj
from demo.render.scenes import unseen_scenes
from vjepa_utils.__main__ import main as command_line
from vjepa_utils.checks import UserError
from vjepa_utils.cli import sampling
from vjepa_utils.predict.predictor import predictor_of

ROOT = Path(__file__).parent


def draw(arguments):
    """The figures of the README, from the clips in videos/ and rendered scenes, in float32 on one
    thread: a second run changes no file.
    """
    torch.set_num_threads(1)  # with more, sums are taken in an order that changes from run to run
    files = (ROOT / "videos" / f"{name}.mp4" for name in ("kitesurfing", "monkey"))
    clips = {file.stem: vj.read_video(file, **sampling(arguments)) for file in files}
    if min(map(len, clips.values())) < 4:
        raise UserError(
            "The figures need at least four frames of each clip: take a smaller --every or "
            "--start, or a larger --count."
        )
    encoder = vj.load_encoder(arguments.encoder, dtype=torch.float32)
    other = "dino-demo" if encoder.training_size else "vjepa2-demo"
    beside, recovers = vj.load_encoder(other, dtype=torch.float32), _recovers(encoder)
    assets = ROOT / "assets"
    shipped = arguments.encoder == "vjepa2-demo"
    folder = Path(
        arguments.output or (assets if shipped else assets / encoder.name.replace("/", "--"))
    )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"-o must be a folder, and {folder} is a file.")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, video in tqdm(clips.items(), desc="drawing"):
        latents = encoder.encode(video, arguments.context, arguments.size)
        # one basis for a clip: a colour means the same in all its figures
        colours = vj.PCAColours().fit(latents)
        moved = [
            abs(video.frames[i + 1].astype(int) - video.frames[i]).mean()
            for i in range(0, len(video) - 1, 2)
        ]
        step = moved.index(max(moved))  # the pair in which most moves
        both = vj.comparison.on_one_grid([encoder, beside], video, arguments.size)
        frame = int(video.indices[0])
        drawn |= {
            f"{name}-pair": vj.figures.pair_panel(video, latents, colours, step),
            f"{name}-pca": vj.figures.pca_strip(video, latents, colours),
            f"{name}-change": vj.figures.change_strip(video, latents),
            f"{name}-overlay": vj.figures.overlay(video, latents, colours, step),
            f"{name}-compare": vj.comparison.encoders_strip(video, both),
            f"{name}-similarity": vj.comparison.similarity_strip(
                video, both, _on_largest_thing(name, frame), frame
            ),
        }
        if recovers:
            held = encoder.hold(video)
            recovery = held.recover(vj.masks.block(held.grid))
            drawn[f"{name}-recovery"] = vj.recovery.recovery_strip(video, {"block": recovery})
            quarter = held.recover(vj.masks.block(held.grid, 0.25))
            decoded = vj.decoding.recovered(video, quarter, "block")
            click = [(*_on_largest_thing(name, frame), 1)]
            masks = vj.segment(video, encoder, points=click)
            drawn[f"{name}-decoded"] = decoded.strip(4)
            drawn[f"{name}-masks"] = vj.segmentation.mask_strip(video, masks)
            if name == "monkey":  # the first picture of the README
                drawn["monkey-story"] = _story(video, latents, colours, masks, decoded)
    if recovers:
        scenes = [scene.frames for scene in unseen_scenes(8, 12, 160, 160)]
        grid = encoder.grid(scenes[0], (160, 160), "clip")
        hidden = {share: vj.masks.block(grid, share) for share in (0.25, 0.4, 0.6, 0.8)} | {
            "future": vj.masks.future(grid, 1)
        }
        recoveries = []
        for scene in tqdm(scenes, desc="recovering scenes"):
            held = encoder.hold(scene, (160, 160))
            recoveries.append({share: held.recover(mask) for share, mask in hidden.items()})
        caption = f"centred block, then future, of {len(scenes)} unseen rendered scenes"
        drawn["recovery-curves"] = vj.recovery.recovery_curves(recoveries, caption)
    if shipped:
        # points need a finer step
        clip = vj.read_video(ROOT / "videos" / "monkey.mp4", arguments.start, 2, arguments.count)
        points = [(int(clip.indices[0]), x, y) for x, y in vj.tracking.grid_points(clip, 16)]
        drawn["monkey-tracks"] = vj.tracking.track_strip(
            clip, vj.track(clip, points, encoder, head="track-head"), most=4
        )
    for name, figure in drawn.items():
        vj.figures.save(figure, folder / f"{name}.png")
        _lighten(folder / f"{name}.png")
    print(f"{folder}: {len(drawn)} figures with {encoder.name}")


def _story(video, features, colours, masks, decoded, most=4):
    """One glance: a clip, its colours, a mask from one click, a hidden region and its pixels."""
    chosen = vj.drawing.evenly(len(features.frames), most)
    numbers = features.frames[chosen, 0]
    frames = vj.drawing.frames_numbered(video, numbers)
    at = video.positions(numbers)
    found = vj.segmentation.outlined(frames, masks.labels[at])
    rows = [("clip", frames), ("colours", colours.colours(features)[chosen]), ("one click", found)]
    rows += [(label, decoded.rows[label][2 * chosen]) for label in list(decoded.rows)[1:4]]
    titles = [f"frame {number}" for number in numbers]
    heading = f"{vj.drawing.clip_caption(video, features.frames)} · {features.encoder}"
    return vj.drawing.picture_rows(rows, titles, heading, 1.5)


def _recovers(encoder):
    """Whether the checkpoint has a predictor of its own features."""
    try:
        return bool(predictor_of(encoder))
    except UserError:
        return False


def _lighten(path):
    """Round the levels of a picture to multiples of 8: half the bytes, and looks the same. No
    palette: one of 256 colours changes as a whole when a few pixels differ, as on another machine.
    """
    with Image.open(path) as picture:
        levels = np.asarray(picture.convert("RGB")).astype(int)
    Image.fromarray(((levels + 4) // 8 * 8).clip(0, 255).astype(np.uint8)).save(path, optimize=True)


def _on_largest_thing(name, frame):
    """The pixel (x, y) of the largest moving thing in a shipped clip that is nearest to the thing's
    middle.
    """
    mask = np.load(ROOT / "videos" / f"{name}.npz")["masks"][frame]
    places = np.argwhere(mask == np.bincount(mask[mask > 0]).argmax())
    y, x = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    return x + 0.5, y + 0.5


def main(words=None):
    """What `python -m vjepa_utils figures` does."""
    command_line(["figures", *(sys.argv[1:] if words is None else words)])


if __name__ == "__main__":
    main()
