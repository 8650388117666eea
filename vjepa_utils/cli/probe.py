import sys
import warnings
from pathlib import Path

import vjepa_utils as vj
from vjepa_utils import cli


def register(commands):
    text = " for the attentive probe"
    save = cli.output(".safetensors", flag="--save", required=False, text=text)
    out = cli.output(".png", required=False, text=" for the confusion matrix")
    parents = cli.frames(), cli.ENCODER, cli.size(), cli.context(), save, out
    parser = cli.add(commands, probe, *parents)
    text = "a folder with a sub-folder of clips for each class, or a .csv file with the columns "
    text += "path, label and, where it is known what the clips were cut from, recording"
    parser.add_argument("source", help=text)
    text = "of the clips held out and of the training (default: %(default)s)"
    parser.add_argument("--seed", type=cli.whole, default=0, help=text)


def probe(arguments):
    """Train a probe on your own classes, and measure it on recordings held out."""
    options = dict(size=arguments.size, context=arguments.context)
    encoder = vj.load_encoder(arguments.encoder)
    features, labels, skipped = vj.probing.classes.folder_features(
        arguments.source, encoder, **options, **cli.sampling(arguments)
    )
    for reason in skipped.values():
        print(f"skipped: {reason}", file=sys.stderr)
    clips, known_by = vj.probing.labelled_clips(arguments.source)
    clips = [clip for clip in clips if str(clip.file) not in skipped]
    recordings = [clip.recording for clip in clips]
    seen, held = vj.probing.classes.hold_out(labels, arguments.seed, recordings)
    again = vj.probing.classes.shown_in_training(features, seen, held)
    if len(again):
        warnings.warn(
            f"{len(again)} of the {len(held)} clips held out, such as {clips[again[0]].file.name}, "
            "show frames that clips of the training show: the result is too good.",
            stacklevel=2,
        )
    training = [features[i] for i in seen], [labels[i] for i in seen]
    truth = [labels[i] for i in held]
    for kind in ("linear", "attentive"):
        trained = vj.train_probe(*training, kind, encoder, **options, seed=arguments.seed)
        predicted = trained.predict([features[i] for i in held])
        right, low, high = vj.probing.classes.accuracy(truth, predicted)
        interval = f"(95 %: {low:.0%} to {high:.0%})"
        result = f"{kind} probe: {right:.0%} of {len(truth)} held-out clips right {interval}"
        print(result)
    lost = f", {len(skipped)} of the files skipped" if skipped else ""
    classes = len(trained.classes)
    print(f"held out by {known_by}: {len({recordings[i] for i in held})} of {len({*recordings})}")
    counts = f"{len(seen)} clips to train on, {classes} classes, chance {1 / classes:.0%}"
    print(f"{counts}; {encoder.name}{lost}")
    if arguments.output:
        title = f"{Path(arguments.source).name} · {encoder.name} · {result} · rows in per cent"
        vj.figures.save(vj.actions.confusion(truth, predicted, title), arguments.output)
    if arguments.save:
        trained.save(arguments.save)
