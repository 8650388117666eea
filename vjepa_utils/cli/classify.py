import vjepa_utils as vj
from vjepa_utils import cli


def register(commands):
    parser = cli.add(commands, classify, cli.CLIP, cli.output(".png", required=False))
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--checkpoint", metavar="ID", help="like facebook/vjepa2-vitl-fpc16-256-ssv2")
    by.add_argument("--probe", metavar="FILE", help="what probe --save wrote")
    parser.add_argument("--encoder", help="for --probe, if it is a local folder")
    parser.add_argument("--top", type=cli.positive, default=5, help="so many classes (default: 5)")


def classify(arguments):
    """The likeliest actions of a clip, by a checkpoint with a head or by a probe of your own."""
    if arguments.encoder and not arguments.probe:
        raise vj.UserError("--encoder goes with --probe: a checkpoint with a head has its own.")
    video = cli.read_clip(arguments)
    if arguments.probe:
        probe = vj.Probe.load(arguments.probe)
        encoder = vj.load_encoder(arguments.encoder or probe.encoder)
        classification = probe.classify(video, encoder, arguments.top)
    else:
        classification = vj.classify(video, arguments.checkpoint, arguments.top)
    print(classification.table())
    if arguments.output:
        vj.figures.save(vj.actions.action_bars(video, classification), arguments.output)
