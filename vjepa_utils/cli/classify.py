"""The commands `classify` and `probe`."""

import sys
from pathlib import Path

from vjepa_utils.checks import UserError
from vjepa_utils.cli import (
    add_context,
    add_encoder,
    add_frames,
    add_output,
    add_size,
    add_video,
    check_output,
    clip,
    frames,
)


def register(commands):
    parser = commands.add_parser(
        "classify", help="the action in a clip", description=classify.__doc__
    )
    add_video(parser)
    add_frames(parser)
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument(
        "--checkpoint",
        metavar="ID",
        help="with a head, such as facebook/vjepa2-vitl-fpc16-256-ssv2, or a folder",
    )
    by.add_argument("--probe", metavar="FILE", help="what probe --save wrote")
    parser.add_argument(
        "--encoder", help="for --probe, where the encoder is a local folder (default: the probe's)"
    )
    parser.add_argument(
        "--top", type=int, default=5, help="how many classes to list (default: %(default)s)"
    )
    add_output(parser, "a .png file: the frames used, and bars", required=False)
    parser.set_defaults(run=classify)
    parser = commands.add_parser(
        "probe", help="train a probe on your own classes", description=probe.__doc__
    )
    parser.add_argument(
        "folder", metavar="FOLDER", help="a folder with a sub-folder of clips for each class"
    )
    add_frames(parser)
    add_encoder(parser)
    add_size(parser, about="(default: 256, or the training size if larger)")
    add_context(parser)
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the clips held out and of the training (default: %(default)s)",
    )
    parser.add_argument(
        "--save", metavar="FILE", help="write the attentive probe, a .safetensors file"
    )
    add_output(parser, "a .png file: the confusion matrix", required=False)
    parser.set_defaults(run=probe)


def classify(arguments):
    """The likeliest actions of a clip, by a checkpoint with a classification head or by a probe of
    your own.
    """
    import vjepa_utils as vj

    if arguments.output:
        check_output(arguments, ".png")
    if arguments.top < 1:
        raise UserError(f"--top must be at least 1, not {arguments.top}.")
    if arguments.encoder and not arguments.probe:
        raise UserError("--encoder goes with --probe: a checkpoint with a head has its own.")
    video = clip(arguments)
    if arguments.probe:
        probe = vj.Probe.load(arguments.probe)
        found = probe.classify(
            video, vj.load_encoder(arguments.encoder or probe.encoder), arguments.top
        )
    else:
        found = vj.classify(video, arguments.checkpoint, arguments.top)
    print(found.table())
    if arguments.output:
        vj.figures.save(vj.actions.action_bars(video, found), arguments.output)


def probe(arguments):
    """Train a probe on a folder that has a sub-folder of clips for each class, and measure it on
    clips held out.
    """
    import vjepa_utils as vj

    if arguments.output:
        check_output(arguments, ".png")
    if arguments.save:
        check_output(arguments, ".safetensors", output=arguments.save, flag="--save")
    if arguments.seed < 0:
        raise UserError(f"--seed must be at least 0, not {arguments.seed}.")
    how = dict(size=arguments.size, context=arguments.context)
    encoder = vj.load_encoder(arguments.encoder)
    features, labels, skipped = vj.actions.probes.folder_features(
        arguments.folder, encoder, **how, **frames(arguments)
    )
    for why in skipped.values():
        print(f"skipped: {why}", file=sys.stderr)
    seen, held = vj.actions.probes.hold_out(labels, arguments.seed)
    truth, results = [labels[i] for i in held], []
    for kind in ("linear", "attentive"):
        trained = vj.train_probe(
            [features[i] for i in seen],
            [labels[i] for i in seen],
            kind,
            encoder,
            **how,
            seed=arguments.seed,
        )
        predicted = trained.predict([features[i] for i in held])
        right, low, high = vj.actions.probes.accuracy(truth, predicted)
        results.append(
            f"{kind} probe: {right:.0%} of {len(truth)} held-out clips right (95 %: {low:.0%} to "
            f"{high:.0%})"
        )
        print(results[-1])
    lost = f", {len(skipped)} of the files skipped" if skipped else ""
    print(
        f"{len(seen)} clips to train on, {len(trained.classes)} classes, chance "
        f"{1 / len(trained.classes):.0%}; {encoder.name}{lost}"
    )
    if arguments.output:
        heading = (
            f"{Path(arguments.folder).name} · {encoder.name} · {results[-1]} · rows in per cent"
        )
        vj.figures.save(vj.actions.confusion(truth, predicted, heading), arguments.output)
    if arguments.save:
        trained.save(arguments.save)
