import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.checks import check_inside
from vjepa_utils.cli.compare import arguments_of_both, on_one_grid


def register(commands):
    parser = cli.add(commands, similarity, *arguments_of_both(), cli.FRAME)
    text = "in pixels of the clip, from its upper left corner"
    parser.add_argument("--point", type=cli.point, required=True, metavar="X,Y", help=text)


def similarity(arguments):
    """Where each encoder finds what a point of one frame shows: cosine, without training."""
    video, (x, y) = cli.read_clip(arguments), arguments.point
    frame = int(video.indices[0]) if arguments.frame is None else arguments.frame
    video.positions([frame])  # a wrong one is told before it is encoded
    check_inside((x, y), video.height, video.width)
    features = on_one_grid(arguments, video)
    figure = vj.comparison.similarity_strip(video, features, (x, y), frame, arguments.most)
    vj.figures.save(figure, arguments.output)
    print(f"{arguments.output}: ({x:g}, {y:g}) of frame {frame}, {', '.join(features)}")
