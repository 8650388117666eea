import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.predict.masks import NAMES


def register(commands):
    encoders, context, out = cli.encoders("vjepa2-demo"), cli.context("pair"), cli.output(".html")
    parser = cli.add(commands, explore, cli.CLIP, encoders, cli.size(512), context, out)
    text = "blocks of every encoder, from 1, or last for the final norm (default: last)"
    blocks = dict(nargs="+", type=_layer, default=[None], metavar="LAYER")
    parser.add_argument("--layers", **blocks, help=text)
    text = "what to hide, to show what the predictor makes of it"
    parser.add_argument("--masks", nargs="+", choices=NAMES, help=text)


def explore(arguments):
    """One HTML page to explore the latent space of a clip.

    Click a patch to see where it is found again, in every step and by every encoder.
    """
    video = cli.read_clip(arguments)
    encoders = [vj.load_encoder(name) for name in arguments.encoders]
    options = arguments.size, tuple(arguments.layers), arguments.masks, arguments.context
    exploration = vj.explorer.look(video, encoders, *options)
    exploration.save(arguments.output)
    steps, rows, columns = exploration.grid
    names = ", ".join(encoder.name for encoder in encoders)
    print(f"{arguments.output}: {steps} steps of {rows}×{columns} patches, {names}")
    for view in exploration.views:
        name = view.features.encoder + (f" block {view.layer}" if view.layer else "")
        error = view.components.error
        cosines = f"within {error['mean']:.4f} on average, 99th percentile {error['p99']:.4f}"
        print(f"  {name}: {len(view.components.scale)} components, cosine {cosines}")


def _layer(text):
    return None if text == "last" else cli.positive(text)
