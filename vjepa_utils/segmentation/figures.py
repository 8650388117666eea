"""Figures and films of masks."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from vjepa_utils import drawing
from vjepa_utils.segmentation.propagation import boundary
from vjepa_utils.segmentation.segment import Masks
from vjepa_utils.video import Clip, File

BRIGHT = np.float32(
    [[0, 220, 255], [255, 50, 50], [255, 220, 0], [60, 255, 60], [255, 60, 255], [60, 60, 255]]
)


def object_colours(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A bright colour for each object, far from what the object shows and from the others'.

    Args:
        frames: uint8 (frames, H, W, 3).
        labels: (frames, H, W), 0 for none of the objects.

    Returns:
        (objects + 1, 3), 0 to 255; the first is not used.
    """
    chosen = [np.zeros(3)]
    for number in range(1, labels.max() + 1):
        where = labels == number
        avoided = np.stack([frames[where].mean(0) if where.any() else chosen[0], *chosen[1:]])
        apart = np.linalg.norm(BRIGHT[:, None] - avoided, axis=-1).min(1)
        chosen.append(BRIGHT[apart.argmax()])
    return np.stack(chosen)


def outlined(
    frames: np.ndarray, labels: np.ndarray, colours: np.ndarray | None = None
) -> np.ndarray:
    """Frames with their objects in bright colours and outlined, all else darker.

    Args:
        frames: uint8 (frames, H, W, 3).
        labels: (frames, H, W), 0 for none of the objects.
        colours: of the objects; None takes `object_colours` of these frames.

    Returns:
        uint8 (frames, H, W, 3).
    """
    colours = object_colours(frames, labels) if colours is None else colours
    thing, line = labels[..., None] > 0, np.stack([*map(boundary, labels)])[..., None]
    shown = np.where(thing, 0.45 * frames + 0.55 * colours[labels], 0.6 * frames)
    return np.where(line, np.where(thing, colours[labels], 255), shown).astype(np.uint8)


def mask_strip(video: Clip, masks: Masks, most: int = 6) -> Figure:
    """At most so many frames of the clip that was segmented, with their masks; the heading gives
    each object's share of the picture.
    """
    video = drawing.clip_of(video, masks.labels.shape[1:])
    chosen = drawing.evenly(len(masks.frames), most)
    frames = drawing.frames_numbered(video, masks.frames[chosen])
    pictures = outlined(frames, masks.labels[chosen])
    titles = [f"frame {number}" for number in masks.frames[chosen]]
    return drawing.gallery(pictures, titles, _caption(video, masks))


def animate_masks(video: Clip, masks: Masks, path: File) -> None:
    """Write an .mp4 or .gif of the clip with its masks."""
    video = drawing.clip_of(video, masks.labels.shape[1:])
    some = drawing.evenly(len(masks.frames), 6)
    colours = object_colours(drawing.frames_numbered(video, masks.frames[some]), masks.labels[some])
    steps = tqdm(range(len(masks.frames)), desc="drawing", delay=2, leave=False)
    frames = (
        outlined(drawing.frames_numbered(video, masks.frames[[n]]), masks.labels[[n]], colours)[0]
        for n in steps
    )
    captions = [f"frame {number} · {_caption(video, masks)}" for number in masks.frames]
    film = drawing.captioned(frames, captions)
    drawing.write_film(film, path, drawing.frame_rate(video))


def _caption(video, masks):
    shares = 100 * masks.area.mean(1) / masks.labels[0].size
    objects = ", ".join(f"object {n} {share:.1f} %" for n, share in enumerate(shares, 1))
    caption = drawing.clip_caption(video, masks.frames)
    return f"{caption} · {masks.encoder} · of the picture: {objects}"
