import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.predict.masks import NAMES


def register(commands):
    out = cli.output(".png")
    parser = cli.add(commands, recover, cli.CLIP, cli.ENCODER, cli.size(), cli.MOST, out)
    masks = dict(nargs="+", action="extend", choices=NAMES, required=True)
    parser.add_argument("--mask", **masks, help="what to hide; one or several")
    text = "how much to hide (default: 0.6; 0.25 for window); not for multiblock and future"
    parser.add_argument("--share", type=float, help=text)
    text = "for future: the last visible step, two frames each, from 0 (default: the middle one)"
    parser.add_argument("--after", type=cli.whole, metavar="STEP", help=text)
    parser.add_argument("--seed", type=cli.whole, default=0, help="of random masks (default: 0)")
    text = "show pixels too, decoded from the features and from the prediction"
    parser.add_argument("--pixels", action="store_true", help=text)


def recover(arguments):
    """What the predictor recovers of hidden tokens, as a figure and a table.

    All frames are encoded jointly.
    """
    from vjepa_utils.predict.predictor import predictor_of

    video = cli.read_clip(arguments)
    encoder = vj.load_encoder(arguments.encoder)
    predictor_of(encoder)  # an encoder without one is told that, before its grid is asked for
    grid = encoder.grid(video, arguments.size, "clip")
    options = grid, arguments.share, arguments.after, arguments.seed
    masks = {name: vj.masks.named(name, *options) for name in arguments.mask}
    held = encoder.hold(video, arguments.size)
    cli.warn_of_cuts(held.whole)
    recoveries = {name: held.recover(mask) for name, mask in masks.items()}
    decoded = {}
    for name, recovery in recoveries.items():
        if arguments.pixels:
            rows = vj.decoding.recovered(video, recovery, name).rows
            decoded[name] = dict([*rows.items()][2:4])  # from the features, and the prediction
        print(f"{name}\n{recovery.table()}\n")
    figure = vj.recovery.recovery_strip(video, recoveries, arguments.most, decoded)
    vj.figures.save(figure, arguments.output)
    print(f"{arguments.output}: {grid[0]} steps of {grid[1]}×{grid[2]} patches, {encoder.name}")
