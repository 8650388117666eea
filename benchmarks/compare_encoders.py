"""Numbers for any encoders: python -m benchmarks.compare_encoders [ENCODER or NAME=ENCODER …]
[--teacher NAME] [--davis FOLDER] [--layers]

Baselines are random weights of the architectures and raw colours. Rendered scenes have textures
that no training used. "pair" features of an image encoder are the mean of the two frames'.
Values are means ± standard deviation: over clips for label propagation, over draws of scenes for
the probes.

J, F, J&F: label propagation by the DAVIS-2017 protocol (benchmarks/propagation.py), single frames
480 pixels high: on real sequences (--davis: a DAVIS-2017 folder, or the nine of
../shared/clips/davis), on three of these, the only ones measured before the second demo encoder,
and on the moving objects of 20 scenes of 10 frames.
moving: does one pair of frames show what moves? AUC of a linear probe on patches of objects that
all have one texture, within each scene. Control: the pair's first frame twice.
direction, speed: R² of ridge regressions of the motion (x and y, in patches a frame) and of its
size, on all patches that show one layer in both frames of the same scenes; the same control.
Probes are fitted on 60 scenes and tested on the next 60, cyclically over eight such draws: one
draw alone can put the AUC of a control 0.1 off chance. Without a signal the mean is at chance, an
AUC of 0.5 and an R² of 0, because the regularisation is chosen on whole held-out scenes.
place, clip: share of the features' variance that a patch's place explains, and that its clip
explains (adjusted R²).
"""

import argparse
import hashlib
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import r2_score, roc_auc_score
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks import pages
from benchmarks.baselines import PatchColours, random_weights
from demo.render.scenes import unseen_scenes
from vjepa_utils.files import replacing
from vjepa_utils.probing.layers import ridge
from vjepa_utils.segmentation import agreement, as_labels, segment

SHARED = Path(__file__).parent.parent.parent / "shared" / "clips" / "davis"
THREE = ("blackswan", "breakdance", "dog")  # sequences
# scenes of a draw; draws for the probes; scenes for label propagation and variance
EACH, DRAWS, CLIPS = 60, 8, 20
NAME = "benchmarks.compare_encoders"  # of the comments around its tables


@cache
def scenes(count, frames, seed, alike=0.15):
    return list(unseen_scenes(count, frames, 256, 256, seed, alike))


def listed(folder):
    """[(clip, folder of its masks)] of a DAVIS-2017 folder (the validation list of 480p), or of
    folders NAME/NAME.mp4 with NAME/masks/.
    """
    folder = Path(folder)
    if (folder / "ImageSets").is_dir():
        names = (folder / "ImageSets" / "2017" / "val.txt").read_text().split()
        kinds = folder / "JPEGImages" / "480p", folder / "Annotations" / "480p"
        return [tuple(kind / name for kind in kinds) for name in names]
    found = [(file, file.parent / "masks") for file in sorted(folder.glob("*/*.mp4"))]
    if not found:
        raise ValueError(
            f"{folder} is no DAVIS-2017 folder: it has no ImageSets/2017/val.txt, and no "
            "NAME/NAME.mp4 with NAME/masks/."
        )
    return found


@cache
def sequences(folder, frames=None):
    """{name: (clip, masks)} of the `listed` clips, with at most so many frames of each."""
    found = {}
    for clip, masks in listed(folder):
        files = sorted(masks.glob("*.png"))
        if not files:
            raise ValueError(f"{masks} holds no masks (.png).")
        masks = np.stack([np.asarray(Image.open(file)) for file in files[:frames]])
        found[clip.stem] = vj.read_video(clip, count=frames), as_labels(masks)
    return found


def propagation(encode, clips):
    """{clip: (J, F, J&F)}, means over its objects, of {clip: (video, masks)}."""
    values = {}
    for name, (video, masks) in clips.items():
        if masks[0].any():
            features = encode(video, "frame", 480)
            ours = segment(video, features, masks=np.uint8(masks[0]), edges=False)
            j, f = np.mean([*agreement(ours.labels, masks).values()], 0)
            values[name] = j, f, (j + f) / 2
    return values


def pair_patches(encode, scene, control):
    """Features (patches, channels) of a scene's first pair of frames, which thing each shows,
    whether it moves, and by how much.
    """
    features = encode(scene.frames[[0, 0] if control else [0, 1]], "pair", 256)
    rows, columns = features.grid[1:]
    starts = [
        (0, *features.centre_of(row, column)) for row in range(rows) for column in range(columns)
    ]
    tracks, visible, _ = scene.follow(starts)
    side = scene.frames.shape[1] / rows
    thing, moves = (
        features.cover(scene.owner[0] > 0).numpy().ravel(),
        features.cover(scene.masks[0] > 0).numpy().ravel(),
    )
    return (
        features.values[0].flatten(0, 1).numpy(),
        thing,
        moves,
        (tracks[:, 1] - tracks[:, 0]) / side,
        visible[:, 1],
    )


def probes(encode, control, each=EACH, draws=DRAWS):
    """{"moving", "direction", "speed"}: (mean, standard deviation over draws of `each` scenes). A
    probe is fitted on each draw and measured on the next, on the first after the last.
    """
    gathered = [gather(encode, control, each, seed) for seed in range(2, 2 + draws)]
    found = {}
    for name in gathered[0]:
        values = []
        for fit, held in zip(gathered, gathered[1:] + gathered[:1], strict=True):
            x, truth, scene = held[name]
            within = name == "moving"
            guess = fitted(*fit[name], within).predict(x).reshape(truth.shape)
            values.append(area_within(truth, guess, scene) if within else explained(truth, guess))
        found[name] = float(np.nanmean(values)), float(np.nanstd(values))
    return found


def gather(encode, control, count, seed):
    """{probe: (features (patches, channels), truth (patches,) or (patches, 2), number of the scene
    of each patch)} of `count` scenes.
    """
    found = {"moving": [], "direction": [], "speed": []}
    for number, scene in enumerate(scenes(count, 2, seed, alike=1.0)):
        x, thing, moves, flow, visible = pair_patches(encode, scene, control)
        on = (thing > 0.5) & ((moves > 0.5) | (moves == 0))  # patches of one kind of object
        truth = {"moving": moves > 0.5, "direction": flow, "speed": np.hypot(*flow.T)}
        for name, values in truth.items():
            chosen = on if name == "moving" else visible
            found[name].append((x[chosen], values[chosen], np.full(chosen.sum(), number)))
    return {
        name: tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        for name, parts in found.items()
    }


def fitted(x, truth, scene, within):
    """A ridge regression of patches' truth on their features, with the regularisation that does
    best on held-out scenes: without a signal that generalises to them, it predicts the average.

    within: on deviations from the scene's mean, so that it learns what distinguishes the patches of
        a scene, not what distinguishes scenes.
    """
    if within:
        x, truth = deviations(x, scene), deviations(truth, scene)
    return ridge(scene).fit(x, truth)


def deviations(values, scene):
    """Values (n, …) minus their mean over the rows of the same scene (n,)."""
    values = np.array(values, float)
    for number in np.unique(scene):
        values[scene == number] -= values[scene == number].mean(0)
    return values


def area_within(truth, guess, scene):
    """AUC within each scene that has true and false patches, averaged; NaN if there is none."""
    chosen = [scene == number for number in np.unique(scene)]
    areas = [roc_auc_score(truth[on], guess[on]) for on in chosen if 0 < truth[on].mean() < 1]
    return np.mean(areas) if areas else np.nan


def explained(truth, guess):
    """R² over all patches and both axes, pooled over scenes; not finite if nothing moves."""
    return r2_score(truth, guess, multioutput="variance_weighted", force_finite=False)


def variance_shares(encode):
    """(place, clip): adjusted R² of the means of each place, and of each clip, over scenes."""
    x = torch.stack(
        [
            encode(scene.frames[:2], "pair", 256).values[0].flatten(0, 1)
            for scene in scenes(CLIPS, 10, seed=1)
        ]
    ).double()
    total = (x - x.mean((0, 1))).square().sum() / (x.shape[0] * x.shape[1] - 1)
    for axis in (0, 1):  # mean over clips: by place; over places: by clip
        means = x.mean(axis, keepdim=True)
        within = (x - means).square().sum() / (
            x.shape[0] * x.shape[1] - means.shape[0] * means.shape[1]
        )
        yield 1 - (within / total).item()


def measure(
    encoder,
    layer=None,
    davis=None,
    frames=None,
    controls=True,
    each=EACH,
    draws=DRAWS,
    clips=CLIPS,
):
    """All numbers of one encoder: {name: (value, standard deviation or None)}.

    Args:
        layer: as for `Encoder.encode`.  davis: a folder for label propagation on real sequences, or
            None.  frames: at most so many of each.
        each, draws: scenes of a draw and draws for the probes.  clips: scenes for label
            propagation, at most 20.
    """
    encode = lambda video, context, size: encoder.encode(video, context, size, layer)
    places = {}
    if davis:
        found = propagation(encode, sequences(davis, frames))
        if set(THREE) < set(found):
            places["DAVIS, 3"] = {name: found[name] for name in THREE}
        places[f"DAVIS, {len(found)}"] = found
    rendered = {
        number: (scene.frames, scene.masks)
        for number, scene in enumerate(scenes(CLIPS, 10, seed=1)[:clips])
    }
    places["scenes"] = propagation(encode, rendered)
    numbers = {}
    for place, values in places.items():
        values = np.array([*values.values()])  # (clips, 3)
        numbers |= {
            f"{name}, {place}": (v.mean(), v.std())
            for name, v in zip(("J", "F", "J&F"), values.T, strict=True)
        }
    for suffix, control in (("", False), (", control", True))[: 1 + controls]:
        found = probes(encode, control, each, draws)
        numbers |= {kind + suffix: value for kind, value in found.items()}
    place, clip = variance_shares(encode)
    return numbers | {"place": (place, None), "clip": (clip, None)}


def beside(names, teacher=None):
    """{row: (encoder's name, which features)} of the encoders and their baselines, random weights
    of the same architectures and raw colours; the teacher first.

    names: of encoders, or LABEL=NAME.
    """
    rows, names = {"teacher": (teacher, "weights")} if teacher else {}, labelled(names)
    rows |= {label: (name, "weights") for label, name in names.items()}
    kinds = {}  # the first video and the first image encoder
    for name in names.values():
        kinds.setdefault("video" if vj.load_encoder(name).training_size else "image", name)
    rows |= {f"random weights, {kind}": (name, "random") for kind, name in kinds.items()}
    if "video" in kinds:
        rows |= {"mean colours": (kinds["video"], 1), "4×4 colours": (kinds["video"], 4)}
    return rows


def labelled(words):
    """{label: encoder's name} from arguments, each LABEL=NAME or a name."""
    return {label: name or label for label, _, name in (word.partition("=") for word in words)}


def measured(row, options, keep=None):
    """`measure` of a row of `beside`; encoders have controls, their baselines have none.

    keep: folder of rows measured before, or None.
    """
    name, what = row
    encoder = vj.load_encoder(name, dtype=torch.float32)
    key = json.dumps([encoder.fingerprint, what, options], sort_keys=True, default=str)
    kept = keep and keep / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if kept and kept.exists():
        return json.loads(kept.read_text())
    if what == "random":
        encoder = random_weights(encoder)
    elif what != "weights":
        encoder = PatchColours(encoder, what)
    found = measure(encoder, controls=what == "weights", **options)
    if kept:
        keep.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps(found))
    return found


def of_layers(row):
    """{row: numbers} of each layer of an encoder. row: (label, its name)."""
    label, name = row
    encoder = vj.load_encoder(name, dtype=torch.float32)
    options = dict(controls=False, each=40, draws=2, clips=4)
    return {
        f"{label}, {f'block {k}' if k else 'final norm'}": measure(encoder, k, **options)
        for k in (*range(1, encoder.depth + 1), None)
    }


def table(rows, names):
    """{row: numbers of `measure`} in Markdown, a column for each of the names, – where a row has no
    such number.
    """

    def text(value, deviation):
        return f"{value:.3f}" + (f" ± {deviation:.3f}" if deviation is not None else "")

    cells = [
        [row, *(text(*numbers[name]) if name in numbers else "–" for name in names)]
        for row, numbers in rows.items()
    ]
    return pages.table(["", *names], cells)


def report(rows, about):
    """Both tables: label propagation; motion and variance."""
    names = dict.fromkeys(name for numbers in rows.values() for name in numbers)
    labels = [n for n in names if n.startswith("J") or n.startswith("F")]
    kinds = ("moving", "direction", "speed")
    motion = [each for kind in kinds for each in (kind, f"{kind}, control") if each in names]
    variance = ["place", "clip"]
    return "\n\n".join([about, table(rows, labels), table(rows, motion + variance)])


def main():
    parser = argparse.ArgumentParser(description="Numbers for any encoders")
    parser.add_argument(
        "encoders",
        nargs="*",
        default=["vjepa2-demo", "dino-demo"],
        help="names or folders, or LABEL=NAME (default: vjepa2-demo dino-demo)",
    )
    parser.add_argument("--teacher", help="the teacher of the others, to be measured beside them")
    parser.add_argument(
        "--davis", default=SHARED if SHARED.is_dir() else None, help="a DAVIS-2017 folder"
    )
    parser.add_argument("--frames", type=int, help="at most so many of each DAVIS sequence")
    parser.add_argument(
        "--scenes",
        type=int,
        nargs=3,
        default=(EACH, DRAWS, CLIPS),
        metavar=("EACH", "DRAWS", "CLIPS"),
        help="scenes of a draw and draws for the probes; scenes for label propagation "
        f"(default: {EACH} {DRAWS} {CLIPS})",
    )
    parser.add_argument("--jobs", type=int, default=1, help="rows to measure in parallel")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep each row there, and reuse rows measured before with the same weights and "
        "options; delete them when the code has changed",
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="measure each layer instead: no DAVIS, no controls, fewer scenes",
    )
    pages.add_into(parser)
    arguments = parser.parse_args()
    each, draws, clips = arguments.scenes
    options = dict(davis=arguments.davis, frames=arguments.frames)
    options |= dict(each=each, draws=draws, clips=clips)
    try:
        if arguments.layers:
            names = labelled(arguments.encoders).items()
            found = spread_out(of_layers, names, arguments.jobs)
            rows = {row: numbers for each in found for row, numbers in each.items()}
            about = "Two draws of 40 scenes for the probes, J of 4 scenes."
            pages.publish({f"{NAME} --layers": report(rows, about)}, arguments.into)
            return
        rows = beside(arguments.encoders, arguments.teacher)
        measure_row = partial(measured, options=options, keep=arguments.keep)
        numbers = spread_out(measure_row, rows.values(), arguments.jobs)
        rows = dict(zip(rows, numbers, strict=True))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    about = f"{clips} rendered scenes; probes: {draws} draws of {each} scenes, fitted on one and "
    about += "measured on the next."
    if arguments.teacher:
        about += f" Teacher: {Path(arguments.teacher).name}."
    if arguments.davis:
        found = [clip.stem for clip, _ in listed(arguments.davis)]
        count = f"{arguments.frames} frames at most" if arguments.frames else "all frames"
        about += f" DAVIS, {len(found)}: {', '.join(found)}, {count}"
        about += f"; DAVIS, 3: {', '.join(THREE)}." if set(THREE) < set(found) else "."
    pages.publish({NAME: report(rows, about)}, arguments.into)


def spread_out(function, items, jobs):
    """A list of function(item), in `jobs` processes of one thread each."""
    items = list(items)
    bar = partial(tqdm, total=len(items), desc="measuring", leave=False)
    if jobs == 1:
        return [function(item) for item in bar(items)]
    # a fork of a process whose torch has threads may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,)) as pool:
        return list(bar(pool.map(function, items)))


if __name__ == "__main__":
    main()
