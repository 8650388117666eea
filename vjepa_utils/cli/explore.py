import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.predict.masks import NAMES


def register(commands):
    encoders, context, out = cli.encoders("vjepa2-demo"), cli.context("pair"), cli.output(".html")
    parser = cli.add(commands, explore, cli.CLIP, encoders, cli.size(512), context, out)
    text = "blocks of every encoder, from 1, or last for the final norm (default: last)"
    parser.add_argument("--layers", nargs="+", type=_layer, default=[None], help=text)
    text = "pixels between tokens, a divisor of the patch (default: the patch)"
    parser.add_argument("--stride", type=cli.positive, metavar="PIXELS", help=text)
    parser.add_argument("--masks", nargs="+", choices=NAMES, help="what to hide, and predict")


def explore(arguments):
    """One HTML page to explore the latent space of a clip.

    Click a patch to see where it is found again, in every step and by every encoder.
    """
    video = cli.read_clip(arguments)
    names = "encoders", "size", "layers", "masks", "context", "stride"
    exploration = vj.explorer.look(video, **{name: vars(arguments)[name] for name in names})
    exploration.save(arguments.output)
    print(f"{arguments.output}: {exploration}")


def _layer(text):
    return None if text == "last" else cli.positive(text)
