"""A mask, some clicks or a box become masks that follow their objects through a clip."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, binary_propagation, center_of_mass
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, check_inside
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.files import replacing
from vjepa_utils.guided import guided, upsampled
from vjepa_utils.reading.pixels import cuts_between
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
        objects = range(1, self.soft.shape[-1])
        with np.errstate(invalid="ignore"):
            centres = [[center_of_mass(x == n)[::-1] for x in self.labels] for n in objects]
        return np.array(centres) + 0.5

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


def as_labels(mask: np.ndarray | File) -> np.ndarray:
    """Masks, or the file of one, as labels, uint8; if they are black and white, white is 1."""
    mask = np.asarray(Image.open(mask) if isinstance(mask, (str, PathLike)) else mask)
    white = set(np.unique(mask)) <= {0, 255}
    return (mask > 0 if white else mask).astype(np.uint8)


def segment(
    video: Clip,
    encoder: Encoder | Features,
    masks: np.ndarray | File | dict | None = None,
    points: Sequence[tuple[float, float, int]] | dict | None = None,
    box: tuple[float, float, float, float] | None = None,
    at: int | None = None,
    size: Size = SIZE,
    layer: int | None = None,
    edges: bool = True,
) -> Masks:
    """Segment objects through a clip, forwards and backwards, with frozen features.

    Args:
        video: see `as_video`.
        encoder: any; frames are encoded independently. Or features of the clip, a step a frame.
        masks: integers (H, W) of the clip's size or a .png of it, 0 for the background, 1… for the
            objects; or {frame number: such a mask}.
        points: clicks (x, y, label) in pixels of the clip: label 0 for "not this", 1… for the
            objects; or {frame number: clicks}.
        box: x, y of its left upper, and of its right lower corner, around one object.
        at: number in the file of the frame of `masks`, `points` or `box`; None for the first.
        size: as for `Encoder.encode`.
        layer: as for `Encoder.encode`.
        edges: whether masks follow the edges of the frame (`guided`), or are upsampled bilinearly.
    Raises:
        UserError: not just one of masks, points and box; one that does not fit the clip.
    """
    video = as_video(video)
    labels_in = _marked(video, masks, points, box, at)
    features = encoder
    if not isinstance(encoder, Features):
        features = encoder.encode(video, "frame", size, layer)
        video = video[: len(features.frames)]  # the file may be damaged after that
    if features.frames[:, 0].tolist() != video.indices.tolist():
        raise UserError("Segmentation needs one step of features a frame of the clip.")
    soft = propagate(features, labels_in(features), _scenes(video))
    if lost := [int(video.indices[i]) for i in range(len(soft)) if not soft[i].any()]:
        warnings.warn(
            f"Nothing is carried over a cut: frames {lost[0]} to {lost[-1]} have no mask. Mark the "
            "objects there too.",
            stacklevel=2,
        )
    return Masks(_full(video, features, soft, edges), video.indices, soft.numpy(), features.encoder)


def _marked(video, masks, points, box, at):
    """What is marked, as a function of features: {step: labels (rows, columns, 1 + objects)}."""
    kinds = (masks, _mask, _covered), (points, _clicks, _clicked), (box, _box, _boxed)
    given = [kind for kind in kinds if kind[0] is not None]
    if len(given) != 1:
        raise UserError("Give one of masks, points and box: what to segment in one frame.")
    ((hints, read, labels),) = given
    if not isinstance(hints, dict):
        hints = {int(video.indices[0]) if at is None else at: hints}
    marks = {int(video.positions([n])[0]): read(hint, video) for n, hint in hints.items()}
    objects = max(count for _, count in marks.values())
    if objects < 1:
        raise UserError("Nothing is marked: label an object with 1 or more.")
    return lambda x: {step: labels(x, step, mark, objects) for step, (mark, _) in marks.items()}


def _mask(mask, video):
    """Labels of pixels, uint8 (H, W), and how many objects there are."""
    mask = as_labels(mask)
    if mask.shape != (video.height, video.width):
        raise UserError(
            f"The mask must have the clip's size, {video.width}×{video.height} pixels and one "
            f"channel, not the shape {mask.shape}."
        )
    return mask, int(mask.max())


def _covered(features, step, mask, objects):
    return torch.stack([features.cover(mask == n) for n in range(objects + 1)], -1)


def _box(corners, video):
    """1 in a box, 2 in its middle half, uint8 (H, W); and one object."""
    left, top, right, bottom = (float(v) for v in corners)
    for corner in ((left, top), (right, bottom)):
        check_inside(corner, video.height, video.width)
    if not (left < right and top < bottom):
        raise UserError(f"box must be left, top, right, bottom, not {tuple(corners)}.")
    mask = np.zeros((video.height, video.width), np.uint8)
    for value, inset in ((1, 0), (2, 0.25)):
        x, y = inset * (right - left), inset * (bottom - top)
        rows = slice(math.floor(top + y), math.ceil(bottom - y))
        mask[rows, math.floor(left + x) : math.ceil(right - x)] = value
    return mask, 1


def _boxed(features, step, box, objects):
    """Patches in a box that are more similar to its middle than to any patch outside."""
    x = F.normalize(features.values[step], dim=-1)
    shares = [features.cover(box >= value) for value in (1, 2)]
    inside, core = (share >= share.max().clamp(max=0.5) for share in shares)
    near = lambda tokens: (x @ tokens.T).amax(-1) if len(tokens) else torch.tensor(-1)
    label = (inside & (near(x[core]) > near(x[~inside]))).float()
    return torch.stack([1 - label, label], -1)


def _clicks(clicks, video):
    """[(x, y, label)] and how many objects there are."""
    clicks = [(float(x), float(y), int(label)) for x, y, label in clicks]
    if not clicks:
        raise UserError("points is empty: give at least one (x, y, label).")
    for x, y, _ in clicks:
        check_inside((x, y), video.height, video.width)
    return clicks, max(label for *_, label in clicks)


def _clicked(features, step, clicks, objects):
    """Patches more similar to the clicked ones of an object than to all others, in one piece with a
    click, by the threshold at which similarity falls most over the outline.
    """
    x = F.normalize(features.values[step], dim=-1)  # (rows, columns, channels)
    places = [features.token_at(click[:2]) for click in clicks]
    similar = (x @ torch.stack([x[place] for place in places]).T).numpy()  # (…, clicks)
    labels = np.array([click[2] for click in clicks])
    soft = torch.zeros(*x.shape[:2], objects + 1)
    for n in sorted(set(labels) - {0}):
        score, others = similar[..., labels == n].max(-1), similar[..., labels != n]
        nearer = score > others.max(-1, initial=-1)
        seeds = np.zeros_like(nearer)
        for place in np.array(places)[labels == n]:
            seeds[tuple(place)] = True
        levels = np.median(score) + (1 - np.median(score)) * LEVELS
        masks = (seeds | nearer & (score > level) for level in levels)
        pieces = [binary_propagation(seeds, mask=mask) for mask in masks]
        soft[..., n] = torch.from_numpy(max(pieces, key=lambda piece: _contrast(score, piece)))
    soft[..., 1:] /= soft[..., 1:].sum(-1, keepdim=True).clamp(min=1)
    soft[..., 0] = 1 - soft[..., 1:].sum(-1)
    return soft


def _contrast(score, piece):
    """By how much a score falls over the outline of a piece."""
    rim = piece & ~binary_erosion(piece, border_value=1)
    around = binary_dilation(piece) & ~piece
    return score[rim].mean() - score[around].mean() if rim.any() and around.any() else -1


def _scenes(video):
    """Positions of frames that begin another scene."""
    cuts = []
    for first in range(0, len(video) - 1, PIECE):
        frames = video[first : first + PIECE + 1].frames
        places = np.arange(len(frames))
        pairs = np.stack([places[:-1], places[1:]], 1)
        cuts += [after for _, after in cuts_between(frames, pairs, first + places)]
    return cuts


def _full(video, features, soft, edges):
    """Labels of the clip's size: uint8 (frames, H, W)."""
    labels = np.zeros((len(soft), video.height, video.width), np.uint8)
    for step in tqdm(range(len(soft)), desc="masks", unit="frame", delay=2, leave=False):
        maps = soft[step].permute(2, 0, 1)
        if maps.any() and edges:
            labels[step] = guided(maps, video[[step]].frames[0], features).argmax(0)
        elif maps.any():
            labels[step] = upsampled(maps, labels.shape[1:], features).argmax(0)
    return labels
