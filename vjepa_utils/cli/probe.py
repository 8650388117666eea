import sys
import warnings
from pathlib import Path

from tqdm.auto import tqdm

import vjepa_utils as vj
from vjepa_utils import cli


def register(commands):
    text = " for the attentive probe of classes"
    save = cli.output(".safetensors", flag="--save", required=False, text=text)
    out = cli.output(".png", required=False, text=" for the confusion matrix, or curves by layer")
    parents = cli.frames(), cli.ENCODER, cli.size(), cli.context(), save, out
    parser = cli.add(commands, probe, *parents)
    what = parser.add_mutually_exclusive_group(required=True)
    text = "a folder with a sub-folder of clips for each class, or a .csv file with the columns "
    text += "path, label and, where it is known what the clips were cut from, recording"
    what.add_argument("source", nargs="?", help=text)
    text = "probe each layer for the values of this .csv file with the columns clip, value and "
    text += "perhaps recording, step or frame, x and y"
    what.add_argument("--target", metavar="FILE", help=text)
    text = "what --target holds; angles are in radians (default: %(default)s)"
    parser.add_argument("--kind", choices=("number", "angle", "class"), default="number", help=text)
    text = "of the clips held out, the training, and the controls (default: %(default)s)"
    parser.add_argument("--seed", type=cli.whole, default=0, help=text)


def probe(arguments):
    """Probe features for your own classes, or each layer for a quantity, on clips held out."""
    if arguments.target and arguments.save:
        raise vj.UserError("--save goes with classes in a folder or table, not with --target.")
    options = dict(size=arguments.size, context=arguments.context, seed=arguments.seed)
    taken, encoder = cli.sampling(arguments), vj.load_encoder(arguments.encoder)
    if arguments.target:
        targets = vj.probing.read_targets(arguments.target, arguments.kind, **taken)
        probes = vj.probe(targets, encoder, arguments.kind, **options)
        print(probes.table())
        figure = probes.figure()
    else:
        trained, figure = probe_classes(arguments.source, encoder, options, taken)
        if arguments.save:
            trained.save(arguments.save)
    if arguments.output:
        vj.figures.save(figure, arguments.output)


def probe_classes(source, encoder, options, taken):
    """Print what probes of classes get right; the attentive probe and its confusion matrix."""
    files, known_by = vj.probing.labelled_clips(source)
    clips, features = [], []
    for clip in tqdm(files, desc=f"clips of {Path(source).name}", leave=False):
        try:
            video = vj.read_video(clip.clip, **taken)
            places = options["size"], options["context"]
            features.append(vj.probing.clip_features(video, encoder, *places))
            clips.append(clip)
        except (vj.UserError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)
    labels, recordings = [clip.value for clip in clips], [clip.recording for clip in clips]
    seen, held = vj.probing.hold_out(labels, recordings, options["seed"])
    means = [each.values.mean((1, 2)) for each in features]
    same = vj.probing.showing_the_same(means)[held][:, seen].any(1)
    if same.any():
        known = f"{same.sum()} of the {len(held)} clips held out, such as "
        known += (
            f"{clips[held[same.argmax()]].clip.name}, show frames that clips of the training show"
        )
        warnings.warn(f"{known}: the result is too good.", stacklevel=2)
    truth = [labels[i] for i in held]
    for kind in ("linear", "attentive"):
        training = [features[i] for i in seen], [labels[i] for i in seen]
        trained = vj.train_probe(*training, kind, encoder, **options)
        predicted = trained.predict([features[i] for i in held])
        right, low, high = vj.probing.accuracy(truth, predicted)
        interval = f"(95 %: {low:.0%} to {high:.0%})"
        result = f"{kind} probe: {right:.0%} of {len(truth)} held-out clips right {interval}"
        print(result)
    lost, count = len(files) - len(clips), len(trained.classes)
    print(f"held out by {known_by}: {len({recordings[i] for i in held})} of {len({*recordings})}")
    counts = f"{len(seen)} clips to train on, {count} classes, chance {1 / count:.0%}"
    print(f"{counts}; {encoder.name}" + (f", {lost} of the files skipped" if lost else ""))
    heading = f"{Path(source).name} · {encoder.name} · {result} · rows in per cent"
    return trained, vj.actions.confusion(truth, predicted, heading)
