"""The command `pca`: a clip to its colours, as a picture or a film."""

from vjepa_utils.cli import (
    add_context,
    add_encoder,
    add_frames,
    add_output,
    add_size,
    add_video,
    check_output,
    clip,
    say_cuts,
)


def register(commands):
    parser = commands.add_parser("pca", help="colours of a clip", description=pca.__doc__)
    add_video(parser)
    add_frames(parser)
    add_encoder(parser)
    add_size(parser, 512)
    add_context(parser)
    add_output(parser, "a .png, .mp4 or .gif file")
    parser.set_defaults(run=pca)


def pca(arguments):
    """Colours of a clip: .png is a strip of its steps, .mp4 and .gif the frames beside their
    colours.
    """
    import vjepa_utils as vj

    check_output(arguments, ".png", ".mp4", ".gif")
    video = clip(arguments)
    encoder = vj.load_encoder(arguments.encoder)
    features = encoder.encode(video, arguments.context, arguments.size)
    say_cuts(features)
    colours = vj.PCAColours().fit(features)
    if arguments.output.lower().endswith(".png"):
        vj.figures.save(vj.figures.pca_strip(video, features, colours), arguments.output)
    else:
        vj.figures.animate(video, features, colours, arguments.output)
    print(
        f"{arguments.output}: {features.grid[0]} steps of {features.grid[1]}×{features.grid[2]} "
        f"patches, {encoder.name}"
    )
