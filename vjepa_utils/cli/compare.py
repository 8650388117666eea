"""The command `compare`, and what `similarity` shares with it."""

import vjepa_utils as vj
from vjepa_utils import cli


def arguments_of_both():
    encoders = cli.encoders("vjepa2-demo", "dino-demo")
    context = cli.context("pair", '"pair" or "frame"')
    return cli.CLIP, encoders, cli.size(512), context, cli.MOST, cli.output(".png")


def register(commands):
    parser = cli.add(commands, compare, *arguments_of_both())
    text = "print rank, anisotropy, shares of variance, outliers and similarity of the encoders"
    parser.add_argument("--numbers", action="store_true", help=text)


def on_one_grid(arguments, video):
    """{encoder: its features of the clip}, all on one grid."""
    encoders = [vj.load_encoder(name) for name in arguments.encoders]
    features = vj.comparison.on_one_grid(encoders, video, arguments.size, arguments.context)
    cli.warn_of_cuts(next(iter(features.values())))
    return features


def compare(arguments):
    """Several encoders on the same pairs of frames and one grid, each in its own colours."""
    video = cli.read_clip(arguments)
    features = on_one_grid(arguments, video)
    figure = vj.comparison.encoders_strip(video, features, arguments.most)
    vj.figures.save(figure, arguments.output)
    if arguments.numbers:
        print(vj.comparison.numbers_table(features))
    print(f"{arguments.output}: {', '.join(features)}")
