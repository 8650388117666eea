"""A mask, some clicks or a box become masks that follow their objects through a clip."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.ndimage import label as connected
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, check_inside
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.files import replacing
from vjepa_utils.guided import guided, upsampled
from vjepa_utils.reading.cuts import cuts_between
from vjepa_utils.segmentation.propagation import propagate
from vjepa_utils.video import Clip, File, Size, as_video

SIZE = 480  # short side, as in the protocol of DAVIS
PIECE = 16  # frames that are read at a time
# Thresholds of clicks to choose from, as shares of the way from the median cosine to 1.
LEVELS = np.linspace(0.3, 0.6, 16)


@dataclass(repr=False)
class Masks:
    """Masks of objects through a clip.

    labels: uint8 (frames, H, W), of the clip's size: 0 the background, 1… the objects.
    frames: int (frames,), numbers in the file.
    soft: float32 (frames, rows, columns, 1 + objects), 0 to 1, on the grid of the features.
    encoder: name of the checkpoint.
    """

    labels: np.ndarray
    frames: np.ndarray
    soft: np.ndarray
    encoder: str

    def __repr__(self):
        shares = ", ".join(f"{share:.1%}" for share in self.area.mean(1) / self.labels[0].size)
        return f"Masks({len(self.area)} objects, {shares} of {len(self.labels)} frames)"

    @property
    def area(self) -> np.ndarray:
        """Pixels of each object in each frame: int (objects, frames)."""
        return np.stack([(self.labels == n).sum((1, 2)) for n in range(1, self.soft.shape[-1])])

    @property
    def centre(self) -> np.ndarray:
        """Mean place (x, y) of each object's pixels, (objects, frames, 2); NaN where it is not."""
        found = np.full((*self.area.shape, 2), np.nan)
        for n, i in np.argwhere(self.area):
            y, x = np.nonzero(self.labels[i] == n + 1)
            found[n, i] = x.mean() + 0.5, y.mean() + 0.5
        return found

    def cover(self, features: Features) -> torch.Tensor:
        """Share of each patch that the objects cover in the first frame of each step, 0 to 1:
        (steps, rows, columns); weights for `PCAColours.fit`.
        """
        at = np.searchsorted(self.frames, features.frames[:, 0].numpy())
        return torch.stack([features.cover(self.labels[i] > 0) for i in at])

    def save(self, folder: File) -> None:
        """Write a PNG a frame, named by its number, in the form and palette of DAVIS."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for number, labels in zip(self.frames, self.labels, strict=True):
            picture = Image.fromarray(labels, "P")
            picture.putpalette(palette().tobytes())
            with replacing(Path(folder) / f"{number:05d}.png") as temporary:
                picture.save(temporary)


def palette() -> np.ndarray:
    """Colours of the labels 0 to 255, those of PASCAL VOC and DAVIS: uint8 (256, 3)."""
    bits = (np.arange(256)[:, None] >> np.arange(24)) & 1  # (256, 24): red, green, blue in turn
    return (bits.reshape(256, 8, 3) << np.arange(7, -1, -1)[:, None]).sum(1).astype(np.uint8)


def segment(
    video: Clip,
    encoder: Encoder,
    masks: np.ndarray | File | dict | None = None,
    points: Sequence[tuple[float, float, int]] | dict | None = None,
    box: tuple[float, float, float, float] | None = None,
    at: int | None = None,
    size: Size = SIZE,
    layer: int | None = None,
    threshold: float | None = None,
    edges: bool = True,
) -> Masks:
    """Segment objects through a clip, forwards and backwards, with frozen features.

    Args:
        video: see `as_video`.
        encoder: any; frames are encoded independently.
        masks: integers (H, W) of the clip's size or a .png of it, 0 for the background, 1… for the
            objects; or {frame number: such a mask}.
        points: clicks (x, y, label) in pixels of the clip: label 0 for "not this", 1… for the
            objects; or {frame number: clicks}.
        box: x, y of its left upper, and of its right lower corner, around one object.
        at: number in the file of the frame of `masks`, `points` or `box`; None for the first.
        size: as for `Encoder.encode`.
        layer: as for `Encoder.encode`.
        threshold: of clicks: the least cosine, from −1 to 1, of a patch with a clicked one; None
            chooses the one at which similarity falls most over the outline.
        edges: whether masks follow the edges of the frame (`guided`), or are upsampled bilinearly.
    Returns:
        Masks.
    Raises:
        UserError: not just one of masks, points and box; one that does not fit the clip.
    """
    video = as_video(video)
    hints = _hints(video, masks, points, box, at)
    return _carried(video, encoder.encode(video, "frame", size, layer), hints, threshold, edges)


def segment_in(
    features: Features,
    video: Clip,
    masks: np.ndarray | File | dict | None = None,
    points: Sequence[tuple[float, float, int]] | dict | None = None,
    box: tuple[float, float, float, float] | None = None,
    at: int | None = None,
    threshold: float | None = None,
    edges: bool = True,
) -> Masks:
    """As `segment`, on precomputed features with one step a frame (context "frame")."""
    video = as_video(video)
    if features.frames[:, 0].tolist() != video.indices.tolist():
        raise UserError("Segmentation needs one step of features a frame of the clip.")
    return _carried(video, features, _hints(video, masks, points, box, at), threshold, edges)


def _hints(video, masks, points, box, at):
    """What is marked, {step: mask, list of clicks or corners of a box}, and how many objects."""
    given = [each for each in (masks, points, box) if each is not None]
    if len(given) != 1:
        raise UserError("Give one of masks, points and box: what to segment in one frame.")
    at = int(video.indices[0]) if at is None else at
    hints = given[0] if isinstance(given[0], dict) else {at: given[0]}
    steps = {int(video.positions([number])[0]): hint for number, hint in hints.items()}
    if masks is not None:
        steps = {step: _read_mask(mask, video) for step, mask in steps.items()}
        objects = max(int(mask.max()) for mask in steps.values())
    elif points is not None:
        steps = {step: _clicks(hint, video) for step, hint in steps.items()}
        objects = max(click[2] for clicks in steps.values() for click in clicks)
    else:
        steps, objects = {step: _corners(hint, video) for step, hint in steps.items()}, 1
    if objects < 1:
        raise UserError("Nothing is marked: label an object with 1 or more.")
    return steps, objects


def _carried(video, features, hints, threshold, edges):
    """Masks of the whole clip from what is marked."""
    labels, objects = {}, hints[1]
    for step, hint in hints[0].items():
        if isinstance(hint, list):
            labels[step] = _first_labels(features, step, hint, objects, threshold)
        elif isinstance(hint, tuple):
            labels[step] = _box_labels(features, step, hint)
        else:
            cover = [features.cover(hint == n) for n in range(objects + 1)]
            labels[step] = torch.stack(cover, -1)
    soft = propagate(features, labels, _scenes(video))
    if lost := [int(video.indices[i]) for i in range(len(soft)) if not soft[i].any()]:
        warnings.warn(
            f"Nothing is carried over a cut: frames {lost[0]} to {lost[-1]} have no mask. Mark the "
            "objects there too.",
            stacklevel=3,
        )
    labels = _full(video, features, soft, edges)
    return Masks(labels, video.indices[: len(labels)], soft.numpy(), features.encoder)


def _read_mask(mask, video):
    if not isinstance(mask, np.ndarray):
        mask = np.asarray(Image.open(mask)) if not torch.is_tensor(mask) else mask.numpy()
        mask = np.where(mask == 255, 1, mask) if set(np.unique(mask)) <= {0, 255} else mask
    mask = mask.astype(np.uint8)
    if mask.shape != (video.height, video.width):
        raise UserError(
            f"The mask must have the clip's size, {video.width}×{video.height} pixels and one "
            f"channel, not the shape {mask.shape}."
        )
    return mask


def _clicks(hint, video):
    clicks = [(float(x), float(y), int(label)) for x, y, label in hint]
    if not clicks:
        raise UserError("points is empty: give at least one (x, y, label).")
    for x, y, _ in clicks:
        check_inside((x, y), video.height, video.width)
    return clicks


def _corners(hint, video):
    left, top, right, bottom = (float(v) for v in hint)
    for corner in ((left, top), (right, bottom)):
        check_inside(corner, video.height, video.width)
    if not (left < right and top < bottom):
        raise UserError(f"box must be left, top, right, bottom, not {tuple(hint)}.")
    return left, top, right, bottom


def _box_labels(features, step, box):
    """Labels of a step from a box: patches in it more similar to its middle than to any patch
    outside: (rows, columns, 2).
    """
    rows, columns = features.grid[1:]
    centres = [[features.centre_of(r, c) for c in range(columns)] for r in range(rows)]
    middle, half = np.add(box[:2], box[2:]) / 2, np.subtract(box[2:], box[:2]) / 2
    off = torch.from_numpy(np.abs((np.array(centres) - middle) / half).max(-1)).float()
    x = F.normalize(features.values[step], dim=-1)
    core = off <= max(0.5, float(off.min()))
    inner = (x @ x[core].T).amax(-1)
    outer = (x @ x[off > 1].T).amax(-1) if (off > 1).any() else torch.full_like(inner, -1)
    label = ((off <= 1) & (inner > outer)).float()
    return torch.stack([1 - label, label], -1)


def _first_labels(features, step, clicks, objects, threshold):
    """Labels of a step from clicks: patches more similar to the clicked ones of an object than to
    all others, in one piece with a click: (rows, columns, 1 + objects).
    """
    x = F.normalize(features.values[step], dim=-1)  # (rows, columns, channels)
    places = [features.token_at(click[:2]) for click in clicks]
    similar = (x @ torch.stack([x[place] for place in places]).T).numpy()  # (…, clicks)
    labels = np.array([click[2] for click in clicks])
    soft = torch.zeros(*x.shape[:2], objects + 1)
    for n in sorted(set(labels) - {0}):
        score, others = similar[..., labels == n].max(-1), similar[..., labels != n]
        nearer = score > others.max(-1, initial=-1)
        clicked = [place for place, label in zip(places, labels, strict=True) if label == n]
        median = np.median(score)
        levels = median + (1 - median) * LEVELS if threshold is None else [threshold]
        pieces = [_pieces_with(clicked, nearer & (score > level)) for level in levels]
        soft[..., n] = torch.from_numpy(max(pieces, key=lambda piece: _contrast(score, piece)))
    soft[..., 1:] /= soft[..., 1:].sum(-1, keepdim=True).clamp(min=1)
    soft[..., 0] = 1 - soft[..., 1:].sum(-1)
    return soft


def _pieces_with(places, mask):
    """The connected parts of a bool mask (rows, columns) that hold one of some places, and these
    places.
    """
    pieces, _ = connected(mask)
    mask = np.isin(pieces, [pieces[place] for place in places if pieces[place]])
    for place in places:
        mask[place] = True
    return mask


def _contrast(score, piece):
    """By how much a score falls over the outline of a piece."""
    rim = piece & ~binary_erosion(piece, border_value=1)
    around = binary_dilation(piece) & ~piece
    return score[rim].mean() - score[around].mean() if rim.any() and around.any() else -1


def _scenes(video):
    """Positions of frames that begin another scene."""
    found, last = [], None
    for first, piece in zip(range(0, len(video), PIECE), video.pieces(PIECE), strict=False):
        frames = piece.frames if last is None else np.concatenate([last, piece.frames])
        numbers = np.arange(first + len(piece) - len(frames), first + len(piece))
        pairs = np.stack([np.arange(len(frames) - 1), np.arange(1, len(frames))], 1)
        found += [after for _, after in cuts_between(frames, pairs, numbers)] if len(pairs) else []
        last = piece.frames[-1:]
    return found


def _full(video, features, soft, edges):
    """Labels of the clip's size: uint8 (frames, H, W)."""
    labels = np.zeros((len(soft), video.height, video.width), np.uint8)
    bar = tqdm(total=len(soft), desc="masks", unit="frame", delay=2, leave=False)
    for first, piece in zip(range(0, len(soft), PIECE), video.pieces(PIECE), strict=False):
        for step, frame in enumerate(piece.frames, first):
            maps = soft[step].permute(2, 0, 1)
            if maps.any():
                size = frame.shape[:2]
                full = guided(maps, frame, features) if edges else upsampled(maps, size, features)
                labels[step] = full.argmax(0).numpy()
            bar.update()
    bar.close()
    return labels
