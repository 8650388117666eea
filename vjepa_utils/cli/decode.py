import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.predict.masks import NAMES


def register(commands):
    out = cli.output(".png", ".mp4", ".gif")
    parents = cli.CLIP, cli.ENCODER, cli.context(), cli.size(), cli.MOST, out
    parser = cli.add(commands, decode, *parents)
    text = "hide this, and decode the prediction too; with --layers, hold it out of the fit"
    parser.add_argument("--mask", choices=NAMES, help=text)
    text = "how much to hide (default: 0.25); not for multiblock and future"
    parser.add_argument("--share", type=float, default=0.25, help=text)
    text = "decode these layers (block numbers from 1), from the first to the last"
    parser.add_argument("--layers", type=cli.positive, nargs="+", metavar="K", help=text)


def decode(arguments):
    """Latents as pixels, by a regression from a clip's tokens to its own pixels, as a figure or a
    film. Without a mask a quarter of the tokens is held out of the fit, for the numbers.
    """
    video = cli.read_clip(arguments)
    encoder, size = vj.load_encoder(arguments.encoder), arguments.size
    hide = lambda grid: vj.masks.named(arguments.mask, grid, arguments.share)
    if arguments.layers or not arguments.mask:
        layers = encoder.encode(video, arguments.context, size, layers=arguments.layers or [None])
        hidden = hide(next(iter(layers.values())).grid) if arguments.mask else None
        decoded = vj.decoding.by_layer(video, layers, hidden)
    else:
        held = encoder.hold(video, size)
        decoded = vj.decoding.recovered(video, held.recover(hide(held.grid)), arguments.mask)
    cli.warn_of_cuts(decoded.features)
    cli.draw(arguments.output, lambda: decoded.strip(arguments.most), decoded.animate)
    print(decoded.heading.replace(" · ", "\n"))
    print(f"{arguments.output}: {len(decoded.features.frames)} steps, {encoder.name}")
