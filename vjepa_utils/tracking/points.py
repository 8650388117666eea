"""Track points through a clip by comparing features.

    tracks = vj.track("my.mp4", [(0, 320, 200)], vj.load_encoder())      # frame, x, y
    tracks.xy, tracks.visible                        # (points, frames, 2), (points, frames)

Points are tracked independently of each other, and in each frame independently of the others: the
feature of a point, read bilinearly where it was picked, is compared with all cells of the frame
(cosine), and the answer is a soft-argmax around the best cell.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vjepa_utils.checks import UserError
from vjepa_utils.files import replacing
from vjepa_utils.tracking.head import TrackHead, load_head
from vjepa_utils.video import as_video

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vjepa_utils.encoder import Encoder
    from vjepa_utils.features import Features
    from vjepa_utils.video import Clip, Context, File, Size, Video

# softmax(40 × cosine) over the cells within 5 of the best. Chrono (Kim et al. 2025) has 20: the
# demo encoder reaches a zero-shot δ_avg of 33.3 with 40 and 29.0 with 20, on 12 rendered scenes at
# 256×256; a radius of 3 makes it 33.8.
TEMPERATURE, RADIUS = 40, 5
RASTER = 256  # pixels, side of the square that TAP-Vid measures on
# Pixels of the raster: a point is visible if tracking it back ends nearer than this to where it was
# picked. On those scenes 24 to 48 give an occlusion accuracy of 83 to 84 %, 16 gives 79 %, 8 gives
# 60 %.
RETURN = 24
ZERO_SHOT_SIZE = 512  # pixels, short side
AT_ONCE = 2**23  # cosines; bounds memory


@dataclass(repr=False)
class Tracks:
    """Tracks of points through a clip.

    xy: (points, frames, 2) float32, x and y in pixels of the upright source picture, (0, 0) its
        upper left corner.
    visible: (points, frames) bool.  queries: (points, 3) float32, the frame number, x, y of each
        point.
    frames: (frames,) int, numbers in the file.  size: (height, width) of the picture.  encoder:
        what tracked them.
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
        kind = str(path).lower()[-4:]
        if kind not in (".npz", ".csv"):
            raise UserError(f"Tracks are saved as .npz or .csv, not {path}.")
        with replacing(path) as temporary:
            if kind == ".npz":
                np.savez_compressed(temporary, **vars(self))
                return
            with open(temporary, "w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["point", "frame", "x", "y", "visible"])
                for point, (places, seen) in enumerate(zip(self.xy, self.visible, strict=True)):
                    for frame, (x, y), here in zip(self.frames, places, seen, strict=True):
                        table.writerow([point, frame, f"{x:.2f}", f"{y:.2f}", int(here)])


def track(
    video: Clip,
    queries: Sequence[tuple[int, float, float]] | np.ndarray,
    encoder: Encoder,
    head: TrackHead | File | None = None,
    size: Size = None,
    layer: int | None = None,
    context: Context = "frame",
) -> Tracks:
    """Track points through a clip, forwards and backwards in time.

    Args:
        video: Video, path, array or tensor (see `as_video`).
        queries: (points, 3): frame number in the file, x, y in pixels of the upright source
            picture.
        encoder: any that `load_encoder` gives.
        head: None compares the encoder's features directly (zero-shot). A `TrackHead`, the name of
            a shipped one ("track-head") or the folder of one refines them, and predicts what is
            visible.
        size, layer: as for `Encoder.encode`; a head brings its own layer, and its size where none
            is given. Without a head None is a short side of 512: smaller cells track better
            (benchmarks/point_tracking.py).
        context: "frame", each frame independently, or "pair", each frame t with t + 1: see
            `frame_features`.
    Returns:
        Tracks. The frame of a query holds the query itself. Without a head a point is visible where
        tracking it back from the place found ends within 24 pixels of the query,
        in a picture scaled to 256×256.
    Raises:
        ValueError: a query or another argument is out of range, fewer than two frames, a head for
            other features.
    """
    video = as_video(video)
    _check_queries(queries, video)  # before the encoding
    if head is None:
        size = ZERO_SHOT_SIZE if size is None else size
    else:
        head = head if isinstance(head, TrackHead) else load_head(head)
        head.check(encoder.channels, encoder.name, encoder.fingerprint)  # before the encoding
        size = head.config["size"] if size is None else size
        layer, context = head.config["layer"], head.config["context"]
    return track_in(frame_features(video, encoder, size, layer, context), video, queries, head)


@torch.no_grad()
def track_in(
    features: Features,
    video: Clip,
    queries: Sequence[tuple[int, float, float]] | np.ndarray,
    head: TrackHead | None = None,
) -> Tracks:
    """As `track`, on precomputed features, one step for each frame of the clip. head: a
    `TrackHead`.
    """
    video = as_video(video)
    queries, frames = _check_queries(queries, video)
    if len(features.frames) != len(video):
        raise UserError(
            "Tracking needs one step of features a frame (frame_features), not "
            f"{len(features.frames)} for {len(video)}."
        )
    if head is not None:
        head.check(features.values.shape[-1], features.encoder)
    maps = F.normalize(features.values, dim=-1) if head is None else head.maps(features, video)
    rows, columns = maps.shape[1:3]
    scale = torch.tensor([columns / video.width, rows / video.height])  # pixels to cells
    raster = RASTER / torch.tensor([columns, rows])  # cells to pixels of the raster
    xy = torch.empty(len(queries), len(maps), 2)
    visible = torch.empty(len(queries), len(maps), dtype=torch.bool)
    for frame in frames.unique():
        group = torch.nonzero(frames == frame)[:, 0]
        for some in group.split(64):
            points = queries[some, 1:] * scale
            for part in torch.arange(len(maps)).split(
                max(1, AT_ONCE // (len(some) * rows * columns))
            ):
                found, evidence, _ = match(maps, int(frame), points, part, raster)
                xy[some[:, None], part] = found / scale
                visible[some[:, None], part] = (
                    evidence[..., -1] < RETURN if head is None else ~head.occluded(evidence)
                )
        xy[group, frame], visible[group, frame] = queries[group, 1:], True
    name = features.encoder if head is None else f"{features.encoder} with {head.name}"
    return Tracks(
        xy.numpy(),
        visible.numpy(),
        queries.numpy(),
        video.indices[: len(maps)].copy(),
        (video.height, video.width),
        name,
    )


def grid_points(video: Video, count: int = 16) -> list[tuple[float, float]]:
    """Points (x, y) of a regular grid over the picture, `count` along its longer side, in cells of
    about the same sides.
    """
    longer = max(video.height, video.width)
    across, down = (max(1, round(count * side / longer)) for side in (video.width, video.height))
    return [
        ((i + 0.5) * video.width / across, (j + 0.5) * video.height / down)
        for j in range(down)
        for i in range(across)
    ]


def _check_queries(queries, video):
    """Queries as float32 (points, 3), and the position in the clip of each one's frame."""
    queries = torch.as_tensor(np.asarray(queries, dtype=np.float64))
    if queries.ndim != 2 or queries.shape[1] != 3 or not len(queries):
        raise UserError(
            "queries must be a list of at least one (frame, x, y), not of shape "
            f"{tuple(queries.shape)}."
        )
    if len(video) < 2:
        raise UserError("Tracking needs a clip of at least two frames; this one has one.")
    for frame, x, y in queries.tolist():
        if frame not in video.indices:
            has = f"holds {len(video)} frames from {video.indices[0]} to {video.indices[-1]}"
            raise UserError(
                f"The query ({frame:g}, {x:g}, {y:g}) is in frame {frame:g}; the clip {has}, and "
                "that is not among them."
            )
        if not (0 <= x <= video.width and 0 <= y <= video.height):
            where = f"lies outside the picture, which is {video.width}×{video.height} pixels"
            raise UserError(f"The query ({frame:g}, {x:g}, {y:g}) {where}.")
    return queries.float(), torch.from_numpy(video.positions(queries[:, 0]))


def frame_features(
    video: Video,
    encoder: Encoder,
    size: Size = None,
    layer: int | None = None,
    context: Context = "frame",
) -> Features:
    """Features with one step for every frame.

    context: "frame", each independently (in a video encoder as a pair with itself); or "pair",
        frame t as the first of the pair t, t + 1.
    """
    if context == "frame":
        return encoder.encode(video, "frame", size, layer)
    pairs = np.stack(
        [np.arange(len(video)), np.arange(1, len(video) + 1).clip(max=len(video) - 1)], 1
    )
    video.frames  # noqa: B018  decoded once and not for each pair
    return encoder.encode(video[pairs.flatten()], "pair", size, layer)


def match(
    maps: torch.Tensor,
    frame: int,
    points: torch.Tensor,
    part: torch.Tensor,
    raster: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points picked in one frame, found in others.

    Args:
        maps: (frames, rows, columns, channels), L2-normalised over the channels.  frame: where the
            points were picked.
        points: (points, 2) as x, y in cells; the centre of cell i is i + 0.5.  part: (n,) frames to
            look in.
        raster: (2,) pixels of the 256×256 raster per cell.
    Returns:
        found (points, n, 2) in cells; and evidence (points, n, 5) of whether it is right: maximum,
        mean and minimum of the cosines, logarithm of the share of the softmax that lies around the
        maximum, and how far from the query tracking back ends, in pixels of the raster; and the
        cosines (points, n, cells).
    """
    shape = maps.shape[1:3]
    picked = sample(maps[frame : frame + 1], points.unsqueeze(1))[:, 0]
    wanted = F.normalize(picked, dim=-1)  # (points, channels)
    first, last = int(part[0]), int(part[-1])
    # a view where it can be one: maps are large
    looked = maps[first : last + 1] if last - first + 1 == len(part) else maps[part]
    cosine = wanted @ looked.flatten(0, 2).T  # (points, n × cells)
    cosine = cosine.unflatten(1, (len(part), -1))
    found, near = soft_argmax(cosine, shape)
    with torch.no_grad():
        # (points, n, cells)
        returning = (
            F.normalize(sample(looked, found.detach()), dim=-1) @ maps[frame].flatten(0, 1).T
        )
        back = ((soft_argmax(returning, shape)[0] - points.unsqueeze(1)) * raster).norm(dim=-1)
        flat = cosine.detach()
        share = near.detach() - torch.logsumexp(TEMPERATURE * flat, -1)
        evidence = torch.stack([flat.amax(-1), flat.mean(-1), flat.amin(-1), share, back], -1)
    return found, evidence, cosine


def sample(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Bilinear reading of maps (n, rows, columns, channels), of each at points (…, n, 2) as x, y in
    cells: (…, n, channels). The centre of cell i is i + 0.5.
    """
    # -1 and 1 are the picture's edges
    place = 2 * points / points.new_tensor(maps.shape[2:0:-1]) - 1
    place = place.movedim(-2, 0).reshape(len(maps), 1, -1, 2)
    read = F.grid_sample(
        maps.permute(0, 3, 1, 2), place, padding_mode="border", align_corners=False
    )  # (n, channels, 1, points)
    return read[:, :, 0].permute(2, 0, 1).reshape(*points.shape[:-1], -1)


def soft_argmax(cosine: torch.Tensor, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean place, under softmax(40 × cosine), of the cells within a radius of 5 around the best.

    Args:
        cosine: (…, rows × columns).  shape: (rows, columns).
    Returns:
        (…, 2) as x, y in cells, and (…,) the logarithm of the sum of the exponentials around the
        best cell.
    """
    rows, columns = shape
    best = cosine.argmax(-1, keepdim=True)
    reach = range(-RADIUS, RADIUS + 1)
    disc = [(row, column) for row in reach for column in reach if row**2 + column**2 <= RADIUS**2]
    row, column = torch.tensor(disc, device=cosine.device).T
    row, column = best // columns + row, best % columns + column  # (…, cells of the disc)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    near = cosine.gather(-1, row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1))
    near = (TEMPERATURE * near).masked_fill(~inside, -torch.inf)
    weight = near.softmax(-1)
    place = torch.stack([(weight * column).sum(-1), (weight * row).sum(-1)], -1) + 0.5
    return place, near.logsumexp(-1)
