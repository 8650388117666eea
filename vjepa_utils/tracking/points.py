"""Track points through a clip by comparing features.

    tracks = vj.track("my.mp4", [(0, 320, 200)], vj.load_encoder())      # frame, x, y
    tracks.xy, tracks.visible                        # (points, frames, 2), (points, frames)

Points are tracked independently of each other, and in each frame independently of the others: the
feature of a point, read bilinearly where it was picked, is compared with all cells of the frame
(cosine), and the answer is a soft-argmax around the best cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from vjepa_utils.checks import UserError, check_inside
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.files import replacing
from vjepa_utils.reading.pixels import resized
from vjepa_utils.tracking.head import STRIDE, TrackHead, load_head
from vjepa_utils.tracking.matching import match
from vjepa_utils.video import Clip, File, Size, Video, as_video

RASTER = 256  # pixels, side of the square that TAP-Vid measures on
# Pixels of the raster: a point is visible if tracking it back ends nearer than this to where it was
# picked. On 12 rendered scenes 24 to 48 give an occlusion accuracy of 83 to 84 %, 16 gives 79 %, 8
# gives 60 %.
RETURN = 24
ZERO_SHOT_SIZE = 512  # pixels, short side
WINDOW, POINTS = 8, 64  # frames and points that are compared at once, to bound memory


@dataclass(repr=False)
class Tracks:
    """Tracks of points through a clip.

    xy: (points, frames, 2) float32, x and y in pixels of the upright source picture, (0, 0) its
        upper left corner.
    visible: (points, frames) bool.
    queries: (points, 3) float32, the frame number, x, y of each point.
    frames: (frames,) int, numbers in the file.
    size: (height, width) of the picture.
    encoder: what tracked them.
    """

    xy: np.ndarray
    visible: np.ndarray
    queries: np.ndarray
    frames: np.ndarray
    size: tuple
    encoder: str

    def __repr__(self):
        points, frames = self.visible.shape
        text = f"{points} points, {frames} frames {self.frames[0]} to {self.frames[-1]}"
        return f"Tracks({text}, visible {self.visible.mean():.0%}, {self.encoder})"

    def save(self, path: File) -> None:
        """Write an .npz of the fields, or a .csv with a row for every point and frame."""
        with replacing(path) as temporary:
            if not str(path).lower().endswith(".csv"):
                with open(temporary, "wb") as file:
                    return np.savez_compressed(file, **vars(self))
            point, step = np.indices(self.visible.shape)
            columns = point, self.frames[step], *np.moveaxis(self.xy, -1, 0), self.visible
            rows = np.stack([column.ravel() for column in columns], 1)
            names, kinds = "point,frame,x,y,visible", "%d,%d,%.2f,%.2f,%d"
            np.savetxt(temporary, rows, kinds, header=names, comments="")


def track(
    video: Clip,
    queries: Sequence[tuple[int, float, float]] | np.ndarray,
    encoder: Encoder | Features,
    head: TrackHead | File | None = None,
    size: Size = None,
    layer: int | None = None,
) -> Tracks:
    """Track points through a clip, forwards and backwards in time.

    Args:
        video: Video, path, array or tensor (see `as_video`).
        queries: (points, 3): frame number in the file, x, y in pixels of the upright source
            picture.
        encoder: any; frames are encoded independently. Or features of the clip, a step a frame.
        head: None compares the features directly (zero-shot). A `TrackHead`, the name of the
            shipped one ("track-head") or a folder of one refines them, and predicts what is
            visible.
        size: as for `Encoder.encode`. None is the one the head was trained for; without a head a
            short side of 512: smaller cells track better (benchmarks/point_tracking.py).
        layer: as for `Encoder.encode`; a head brings its own.
    Returns:
        Tracks. The frame of a query holds the query itself. Without a head a point is visible where
        tracking it back from the place found ends within 24 pixels of the query, in a picture
        scaled to 256×256.
    Raises:
        UserError: a query or another argument is out of range, fewer than two frames, a head for
            other features.
    """
    video, features = as_video(video), encoder
    queries, _ = _positions(queries, video)  # fails before the encoding
    given = isinstance(encoder, Features)
    device = encoder.values.device if given else encoder.device
    if head is not None:
        head = (head if isinstance(head, TrackHead) else load_head(head)).to(device)
        head.check(encoder)
        size, layer = head.config["size"] if size is None else size, head.config["layer"]
    if not given:
        features = encoder.encode(video, "frame", ZERO_SHOT_SIZE if size is None else size, layer)
        video = video[: len(features.frames)]  # the file may be damaged after that
    if len(features.frames) != len(video):
        raise UserError("Tracking needs one step of features a frame of the clip.")
    results = _tracked(features, video, queries, head, device)
    name = f"{features.encoder} with {head.name}" if head else features.encoder
    size = video.height, video.width
    return Tracks(*results, queries.numpy(), video.indices.copy(), size, name)


@torch.no_grad()
def _tracked(features, video, queries, head, device):
    """`Tracks.xy` and `visible`; few frames are compared at a time."""
    queries, frames = _positions(queries, video)
    # where the first cell begins, in cells; a head makes cells of its own
    offset = 0 if head else features.offset
    xy = torch.empty(len(queries), len(video), 2)
    visible = torch.empty(len(queries), len(video), dtype=torch.bool)
    # a map for each frame that points were picked in
    maps_of = partial(_maps, features, video, head, device)
    sources = {int(n): maps_of(n[None])[0] for n in frames.unique()}
    for part in torch.arange(len(video)).split(WINDOW):
        maps = maps_of(part)
        cells = torch.tensor([maps.shape[2], maps.shape[1]], device=device)
        scale = cells / cells.new_tensor([video.width, video.height])  # pixels to cells
        for frame, source in sources.items():
            for group in torch.nonzero(frames == frame)[:, 0].split(POINTS):
                points = queries[group, 1:].to(device) * scale - offset
                places, evidence, _ = match(source, points, maps, RASTER / cells)
                seen = evidence[..., -1] < RETURN if head is None else ~head.occluded(evidence)
                xy[group[:, None], part] = ((places + offset) / scale).cpu()
                visible[group[:, None], part] = seen.cpu()
    points = torch.arange(len(queries))
    xy[points, frames], visible[points, frames] = queries[:, 1:], True
    return xy.numpy(), visible.numpy()


def _maps(features, video, head, device, positions):
    """What is compared of some frames: (n, rows, columns, channels), L2-normalised."""
    values = features.values[positions].to(device)
    if head is None:
        return F.normalize(values, dim=-1)
    size = [side // STRIDE * STRIDE for side in features.picture_size]
    pixels = [resized(frame, size) for frame in video[positions.numpy()].frames]
    return head(values, torch.stack(pixels).to(device) / 255)


def grid_points(video: Video, count: int = 16) -> list[tuple[float, float]]:
    """Points (x, y) of a regular grid over the picture, `count` along its longer side, in cells of
    about the same sides; UserError if they are finer than pixels.
    """
    size = np.array([video.width, video.height])
    if count > max(size):
        raise UserError(
            f"A grid has at most a point a pixel, {max(size)} along this clip, not {count}."
        )
    across, down = np.maximum(1, np.round(count * size / max(size))).astype(int)
    y, x = np.mgrid[:down, :across] + 0.5
    return [*zip((x / across * video.width).flat, (y / down * video.height).flat, strict=True)]


def _positions(queries, video):
    """Queries as float32 (points, 3), and the position in the clip of each one's frame."""
    queries = torch.as_tensor(np.asarray(queries, dtype=np.float64))
    if queries.ndim != 2 or queries.shape[1] != 3 or not len(queries):
        raise UserError(
            "queries must be a list of at least one (frame, x, y), not of shape "
            f"{tuple(queries.shape)}."
        )
    if len(video) < 2:
        raise UserError("Tracking needs a clip of at least two frames; this one has one.")
    for frame, *point in queries.tolist():
        if frame % 1:
            raise UserError(f"The frame of a query must be a whole number, not {frame:g}.")
        check_inside(point, video.height, video.width)
    return queries.float(), torch.from_numpy(video.positions(queries[:, 0]))
