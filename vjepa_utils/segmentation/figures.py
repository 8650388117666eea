"""Figures and films of masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from vjepa_utils.drawing import (
    captioned,
    clip_caption,
    clip_of,
    evenly,
    frame_rate,
    frames_numbered,
    gallery,
    write_film,
)
from vjepa_utils.segmentation.propagation import boundary
from vjepa_utils.segmentation.segment import palette
from vjepa_utils.video import Clip, File

if TYPE_CHECKING:
    from vjepa_utils.segmentation.segment import Masks


def painted(frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A frame uint8 (H, W, 3) with its objects in their colours and outlined, all else darker."""
    colours = palette()[labels]
    shown = np.where(labels[..., None] > 0, 0.45 * frame + 0.55 * colours, 0.6 * frame)
    line = boundary(labels)
    shown[line] = np.where(labels[line][:, None] > 0, palette()[labels[line]], 255)
    return shown.astype(np.uint8)


def mask_strip(video: Clip, masks: Masks, most: int = 6) -> Figure:
    """Frames of a clip with their masks; the heading gives each object's share of the picture.

    Args:
        video: the clip that was segmented.
        masks: what `segment` gave.
        most: frames.
    """
    video = clip_of(video, masks.labels.shape[1:])
    chosen = evenly(len(masks.frames), most)
    frames = frames_numbered(video, masks.frames[chosen])
    pictures = [painted(f, masks.labels[i]) for f, i in zip(frames, chosen, strict=True)]
    return gallery(pictures, [f"frame {masks.frames[i]}" for i in chosen], _caption(video, masks))


def animate_masks(video: Clip, masks: Masks, path: File, rate: float | None = None) -> None:
    """Write an .mp4 or .gif of the clip with its masks, `rate` frames a second; None takes that of
    the clip's times.
    """
    video = clip_of(video, masks.labels.shape[1:])
    numbered = zip(
        tqdm(masks.frames, desc="drawing", delay=2, leave=False), masks.labels, strict=True
    )
    pictures = (painted(frames_numbered(video, [n])[0], labels) for n, labels in numbered)
    captions = [f"frame {number} · {_caption(video, masks)}" for number in masks.frames]
    write_film(captioned(pictures, captions), path, rate or frame_rate(video))


def _caption(video, masks):
    shares = 100 * masks.area.mean(1) / masks.labels[0].size
    objects = ", ".join(f"object {n} {share:.1f} %" for n, share in enumerate(shares, 1))
    return f"{clip_caption(video, masks.frames)} · {masks.encoder} · of the picture: {objects}"
