"""The command `probe`."""

import sys
from pathlib import Path

from vjepa_utils import cli


def register(commands):
    text = " for the attentive probe"
    save = cli.output(".safetensors", flag="--save", required=False, text=text)
    out = cli.output(".png", required=False, text=" for the confusion matrix")
    parents = cli.frames(), cli.ENCODER, cli.size(), cli.context(), save, out
    parser = cli.add(commands, probe, *parents)
    parser.add_argument("folder", help="with a sub-folder of clips for each class")
    text = "of the clips held out and of the training (default: %(default)s)"
    parser.add_argument("--seed", type=cli.whole, default=0, help=text)


def probe(arguments):
    """Train a probe on your own classes, and measure it on clips held out."""
    import vjepa_utils as vj

    options = dict(size=arguments.size, context=arguments.context)
    encoder = vj.load_encoder(arguments.encoder)
    features, labels, skipped = vj.actions.probes.folder_features(
        arguments.folder, encoder, **options, **cli.sampling(arguments)
    )
    for reason in skipped.values():
        print(f"skipped: {reason}", file=sys.stderr)
    seen, held = vj.actions.probes.hold_out(labels, arguments.seed)
    training = [features[i] for i in seen], [labels[i] for i in seen]
    truth = [labels[i] for i in held]
    for kind in ("linear", "attentive"):
        trained = vj.train_probe(*training, kind, encoder, **options, seed=arguments.seed)
        predicted = trained.predict([features[i] for i in held])
        right, low, high = vj.actions.probes.accuracy(truth, predicted)
        interval = f"(95 %: {low:.0%} to {high:.0%})"
        result = f"{kind} probe: {right:.0%} of {len(truth)} held-out clips right {interval}"
        print(result)
    lost = f", {len(skipped)} of the files skipped" if skipped else ""
    classes = len(trained.classes)
    counts = f"{len(seen)} clips to train on, {classes} classes, chance {1 / classes:.0%}"
    print(f"{counts}; {encoder.name}{lost}")
    if arguments.output:
        title = f"{Path(arguments.folder).name} · {encoder.name} · {result} · rows in per cent"
        vj.figures.save(vj.actions.confusion(truth, predicted, title), arguments.output)
    if arguments.save:
        trained.save(arguments.save)
