"""The command `places`, and how `pca` reads what it wrote."""

import json

from safetensors.numpy import save_file
from tqdm.auto import tqdm

import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.files import read_safetensors, replacing


def register(commands):
    parents = cli.frames(), cli.ENCODER, cli.size(512), cli.context(), cli.output(".safetensors")
    parser = cli.add(commands, places, *parents)
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="videos, GIFs, folders of images")


def places(arguments):
    """Mean features of each place over clips, for `pca --remove`."""
    encoder, options = vj.load_encoder(arguments.encoder), (arguments.context, arguments.size)
    videos = [vj.read_video(clip, **cli.sampling(arguments)) for clip in arguments.clips]
    kinds = [kind_of(encoder, video, *options) for video in videos]
    for clip, kind in zip(arguments.clips, kinds, strict=True):
        if kind != kinds[0]:
            unlike = f"{clip} is encoded as {kind}, and {arguments.clips[0]} as {kinds[0]}"
            raise vj.UserError(f"{unlike}: give --size HEIGHTxWIDTH and a --context of one length.")
    bar = tqdm(videos, desc="encoding", unit="clip", leave=False)
    means = vj.colours.place_means(encoder.encode(video, *options) for video in bar)
    with replacing(arguments.output) as temporary:
        described = json.dumps({"kind": kinds[0], "clips": arguments.clips})
        save_file({"means": means}, temporary, {"places": described})
    print(f"{arguments.output}: {kinds[0]}; clips: {len(videos)}")


def kind_of(encoder, video, context, size):
    """What features must share for means of places to fit them, in words."""
    plan, weights = encoder.plan(video, context, size), encoder.fingerprint[:12]
    grid, size = ("{}×{}".format(*sides) for sides in (plan.picture_grid, plan.size))
    return f"{encoder.name} ({weights}), {grid} patches of {size} pixels, {plan.context} frames"


def colours_without(path, encoder, video, context, size):
    """Colours, not fitted yet, from which the means in a file are taken out."""
    arrays, described = read_safetensors(path, "places")
    kind = kind_of(encoder, video, context, size)
    if described["kind"] != kind:
        unlike = f"{described['kind']}, and these features are of {kind}"
        raise vj.UserError(f"{path} holds means of places of {unlike}: make it anew with places.")
    colours = vj.PCAColours(remove=arrays["means"].numpy())
    colours.removed = f"places in {path.name}"
    return colours
