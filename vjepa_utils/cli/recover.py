"""The command `recover`."""

from vjepa_utils.cli import (
    add_encoder,
    add_frames,
    add_output,
    add_size,
    add_video,
    check_output,
    clip,
    say_cuts,
)
from vjepa_utils.predict.masks import NAMES


def register(commands):
    parser = commands.add_parser(
        "recover", help="what the predictor recovers", description=recover.__doc__
    )
    add_video(parser)
    add_frames(parser)
    add_encoder(parser)
    add_size(parser, about="(default: 256, or the training size if larger)")
    parser.add_argument(
        "--mask",
        nargs="+",
        action="extend",
        choices=NAMES,
        required=True,
        help="what to hide; one or several",
    )
    parser.add_argument(
        "--share",
        type=float,
        help="how much to hide (default: 0.6; 0.25 for window); not for multiblock and future",
    )
    parser.add_argument(
        "--after",
        type=int,
        help="for future: the last visible step, two frames each, from 0 (default: the middle one)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of random masks (default: %(default)s)"
    )
    add_output(parser, "a .png file")
    parser.set_defaults(run=recover)


def recover(arguments):
    """What the predictor recovers of hidden tokens, as a figure and a table; all frames are encoded
    jointly.
    """
    import vjepa_utils as vj

    check_output(arguments, ".png")
    video = clip(arguments)
    encoder = vj.load_encoder(arguments.encoder)
    grid = encoder.grid(video, arguments.size, "clip")
    how = arguments.share, arguments.after, arguments.seed
    masks = {name: vj.masks.named(name, grid, *how) for name in arguments.mask}
    found = encoder.recover(video, masks, size=arguments.size)
    say_cuts(next(iter(found.values())).whole)
    vj.figures.save(vj.recovery.recovery_strip(video, found), arguments.output)
    for name, recovery in found.items():
        print(f"{name}\n{recovery.table()}\n")
    print(f"{arguments.output}: {grid[0]} steps of {grid[1]}×{grid[2]} patches, {encoder.name}")
