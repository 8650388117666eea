"""Figures and films of masks."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from vjepa_utils import drawing
from vjepa_utils.segmentation.propagation import boundary
from vjepa_utils.segmentation.segment import Masks, palette
from vjepa_utils.video import Clip, File


def painted(frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A frame uint8 (H, W, 3) with its objects in their colours and outlined, all else darker."""
    colours, thing, line = palette()[labels], labels[..., None] > 0, boundary(labels)[..., None]
    shown = np.where(thing, 0.45 * frame + 0.55 * colours, 0.6 * frame)
    return np.where(line, np.where(thing, colours, 255), shown).astype(np.uint8)


def mask_strip(video: Clip, masks: Masks, most: int = 6) -> Figure:
    """At most so many frames of the clip that was segmented, with their masks; the heading gives
    each object's share of the picture.
    """
    video = drawing.clip_of(video, masks.labels.shape[1:])
    chosen = drawing.evenly(len(masks.frames), most)
    frames = drawing.frames_numbered(video, masks.frames[chosen])
    pictures = list(map(painted, frames, masks.labels[chosen]))
    titles = [f"frame {number}" for number in masks.frames[chosen]]
    return drawing.gallery(pictures, titles, _caption(video, masks))


def animate_masks(video: Clip, masks: Masks, path: File) -> None:
    """Write an .mp4 or .gif of the clip with its masks."""
    video = drawing.clip_of(video, masks.labels.shape[1:])
    numbers = tqdm(masks.frames, desc="drawing", delay=2, leave=False)
    frames = (drawing.frames_numbered(video, [number])[0] for number in numbers)
    captions = [f"frame {number} · {_caption(video, masks)}" for number in masks.frames]
    film = drawing.captioned(map(painted, frames, masks.labels), captions)
    drawing.write_film(film, path, drawing.frame_rate(video))


def _caption(video, masks):
    shares = 100 * masks.area.mean(1) / masks.labels[0].size
    objects = ", ".join(f"object {n} {share:.1f} %" for n, share in enumerate(shares, 1))
    caption = drawing.clip_caption(video, masks.frames)
    return f"{caption} · {masks.encoder} · of the picture: {objects}"
