import vjepa_utils as vj
from vjepa_utils import cli


def register(commands):
    out = cli.output(".png", ".mp4", ".gif")
    cli.add(commands, pca, cli.CLIP, cli.ENCODER, cli.size(512), cli.context(), out)


def pca(arguments):
    """Colours of a clip: .png is a strip of its steps, .mp4 and .gif the frames beside them."""
    video = cli.read_clip(arguments)
    encoder = vj.load_encoder(arguments.encoder)
    features = encoder.encode(video, arguments.context, arguments.size)
    cli.warn_of_cuts(features)
    colours = vj.PCAColours().fit(features)
    if arguments.output.suffix.lower() == ".png":
        vj.figures.save(vj.figures.pca_strip(video, features, colours), arguments.output)
    else:
        vj.figures.animate(video, features, colours, arguments.output)
    steps, rows, columns = features.grid
    print(f"{arguments.output}: {steps} steps of {rows}×{columns} patches, {encoder.name}")
