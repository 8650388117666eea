"""The command `explore`."""

from vjepa_utils.cli import (
    add_context,
    add_frames,
    add_output,
    add_size,
    add_video,
    check_output,
    clip,
)


def register(commands):
    parser = commands.add_parser(
        "explore", help="a page to explore a clip in", description=explore.__doc__
    )
    add_video(parser)
    add_frames(parser)
    parser.add_argument(
        "--encoders",
        "--encoder",
        nargs="+",
        default=["vjepa2-demo"],
        metavar="ENCODER",
        help="shipped ones, Hugging Face ids or local folders (default: vjepa2-demo)",
    )
    add_size(parser, 512, "of the first encoder (default: %(default)s)")
    add_context(parser)
    parser.add_argument(
        "--layers",
        nargs="+",
        type=_layer,
        default=[None],
        metavar="LAYER",
        help="blocks of every encoder, from 1, or last for the final norm (default: last)",
    )
    parser.add_argument(
        "--masks",
        nargs="+",
        metavar="MASK",
        help="what to hide, as for recover --mask, to show what the predictor makes of it",
    )
    add_output(parser, "an .html file")
    parser.set_defaults(run=explore)


def explore(arguments):
    """One HTML page to explore the latent space of a clip: click a patch to see where it is found
    again, in every step and by every encoder.
    """
    import vjepa_utils as vj

    check_output(arguments, ".html")
    video = clip(arguments)
    encoders = [vj.load_encoder(name) for name in arguments.encoders]
    found = vj.explorer.look(
        video,
        encoders,
        arguments.size,
        tuple(arguments.layers),
        arguments.masks,
        arguments.context or "pair",
    )
    found.save(arguments.output)
    steps, rows, columns = found.grid
    names = ", ".join(encoder.name for encoder in encoders)
    print(f"{arguments.output}: {steps} steps of {rows}×{columns} patches, {names}")
    for view in found.views:
        layer = f" block {view.layer}" if view.layer else ""
        error = view.components.error
        print(
            f"  {view.features.encoder}{layer}: {view.components.count} components, cosine within "
            f"{error['mean']:.4f} on average, 99th percentile {error['p99']:.4f}"
        )


def _layer(text):
    return None if text == "last" else int(text)
