from pathlib import Path

import numpy as np
from PIL import Image

import vjepa_utils as vj
from vjepa_utils import cli


def register(commands):
    out = cli.output(".png", ".mp4", ".gif", text="; or a folder, for a PNG a frame", folder=True)
    parser = cli.add(commands, segment, cli.CLIP, cli.ENCODER, cli.size(480), cli.MOST, out)
    what = parser.add_mutually_exclusive_group(required=True)
    clicks = dict(type=cli.point, action="append", metavar="X,Y")
    what.add_argument("--point", **clicks, help="a point on the object; may be repeated")
    what.add_argument("--mask", type=Path, metavar="FILE", help="a .png: 0, then 1… for objects")
    what.add_argument("--box", type=cli.box, metavar="X,Y,X,Y", help="corners around the object")
    parser.add_argument("--not", dest="reject", **clicks, help="a point that is not on the object")
    parser.add_argument("--at", type=cli.whole, metavar="FRAME", help="number of the marked frame")
    parser.add_argument("--no-edges", action="store_true", help="do not follow the frame's edges")
    text = "folder of true masks, a PNG a frame of the clip: prints J, F and J&F as DAVIS does"
    parser.add_argument("--truth", type=Path, metavar="FOLDER", help=text)


def segment(arguments):
    """A click, a box or a mask becomes masks that follow the object through the clip.

    .png is a strip of frames, .mp4 and .gif a film, a folder holds a PNG a frame.
    """
    video = cli.read_clip(arguments)
    truth = None if arguments.truth is None else _truth(arguments.truth, video)
    points = None
    if arguments.point:
        points = [(*p, 1) for p in arguments.point] + [(*p, 0) for p in arguments.reject or []]
    hints = dict(masks=arguments.mask, points=points, box=arguments.box, at=arguments.at)
    encoder, edges = vj.load_encoder(arguments.encoder), not arguments.no_edges
    masks = vj.segment(video, encoder, **hints, size=arguments.size, edges=edges)
    strip = lambda: vj.segmentation.mask_strip(video, masks, arguments.most or 6)
    film = lambda path: vj.segmentation.animate_masks(video, masks, path)
    cli.draw(arguments.output, strip, film if arguments.output.suffix else masks.save)
    for n, share in enumerate(100 * masks.area / masks.labels[0].size, 1):
        print(f"object {n}: {share.min():.2f} to {share.max():.2f} % of the picture")
    if truth is not None:
        for n, (j, f) in vj.segmentation.agreement(masks.labels, truth).items():
            print(f"object {n}: J {j:.3f}, F {f:.3f}, J&F {(j + f) / 2:.3f}")
    print(f"{arguments.output}: {len(masks.frames)} frames, {encoder.name}")


def _truth(folder, video):
    """True masks of the frames of a clip: (frames, H, W)."""
    files = sorted(folder.glob("*.png"))
    if len(files) <= video.indices[-1]:
        needed = f"one for every frame to {video.indices[-1]} is needed"
        raise vj.UserError(f"{folder} holds {len(files)} masks (.png): {needed}.")
    truth = np.stack([np.asarray(Image.open(files[number])) for number in video.indices])
    if truth.shape[1:] != (video.height, video.width):
        raise vj.UserError(f"The masks in {folder} have another size than the clip.")
    return vj.segmentation.as_labels(truth)
