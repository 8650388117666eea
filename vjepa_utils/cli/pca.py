from pathlib import Path

import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.checks import UserError
from vjepa_utils.cli.places import colours_without


def register(commands):
    parents = cli.CLIP, cli.ENCODER, cli.size(512), cli.context(), cli.MOST
    parser = cli.add(commands, pca, *parents, cli.output(".png", ".mp4", ".gif"))
    alone = parser.add_mutually_exclusive_group()
    text = "colours of this thing alone, found from a point of the first frame; the rest is grey"
    alone.add_argument("--point", type=cli.point, metavar="X,Y", help=text)
    text = "colours of a mask of the first frame alone, a .png of the clip's size"
    alone.add_argument("--on", type=Path, metavar="FILE", help=text)
    text = "take out the mean of each place: place, over this clip, or what places wrote"
    parser.add_argument("--remove", type=Path, metavar="place|FILE", help=text)
    text = "of a .png: upsample the colours along the edges of the frame, for display"
    parser.add_argument("--guided", action="store_true", help=text)


def pca(arguments):
    """Colours of a clip: .png is a strip of its steps, .mp4 and .gif the frames beside them."""
    if arguments.guided and arguments.output.suffix.lower() != ".png":
        raise UserError("--guided is for figures: let -o end in .png.")
    video = cli.read_clip(arguments)
    encoder, where = vj.load_encoder(arguments.encoder), None
    options = arguments.context, arguments.size
    if arguments.remove in (None, Path("place")):
        colours = vj.PCAColours(remove=arguments.remove and "place")
    else:
        colours = colours_without(arguments.remove, encoder, video, *options)
    features = encoder.encode(video, *options)
    cli.warn_of_cuts(features)
    if arguments.point or arguments.on:
        hint = {"points": [(*arguments.point, 1)]} if arguments.point else {"masks": arguments.on}
        masks = vj.segment(video, encoder, **hint, size=arguments.size, edges=False)
        where = masks.cover(features)
    colours.fit(features, weights=where)
    shown = dict(where=where, edges=arguments.guided, most=arguments.most)
    strip = lambda: vj.figures.pca_strip(video, features, colours, **shown)
    film = lambda path: vj.figures.animate(video, features, colours, path, where=where)
    cli.draw(arguments.output, strip, film)
    steps, rows, columns = features.grid
    print(f"{arguments.output}: {steps} steps of {rows}×{columns} patches, {encoder.name}")
