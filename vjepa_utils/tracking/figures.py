"""Figures and films of tracks."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from vjepa_utils import drawing
from vjepa_utils.tracking.points import Tracks
from vjepa_utils.video import Clip, File

TAIL = 8  # frames
FINE = 2  # drawn twice as large and made smaller: smooth lines


def track_strip(video: Clip, tracks: Tracks, most: int = 6) -> Figure:
    """Frames of a clip with its tracks drawn in: a dot where a point is visible, a ring where it
    is hidden, a tail of where it was.

    Args:
        video: the clip that was tracked.
        tracks: of it, what `track` gave.
        most: frames.
    """
    video = drawing.clip_of(video, tracks.size)
    chosen = drawing.evenly(len(tracks.frames), most)
    frames = drawing.frames_numbered(video, tracks.frames[chosen])
    drawn = [_draw_tracks(frame, tracks, i) for frame, i in zip(frames, chosen, strict=True)]
    heading = (
        f"{drawing.clip_caption(video, tracks.frames)} · {len(tracks.xy)} points tracked "
        f"independently · {tracks.encoder} · dot: visible, ring: hidden"
    )
    return drawing.gallery(drawn, [f"frame {tracks.frames[i]}" for i in chosen], heading, 2.4)


def animate_tracks(video: Clip, tracks: Tracks, path: File) -> None:
    """Write an .mp4 or .gif of the clip with its tracks, drawn as in `track_strip`, at most 1280
    pixels wide or high, at the rate of the clip's times.
    """
    video = drawing.clip_of(video, tracks.size)
    numbers = enumerate(tqdm(tracks.frames, desc="drawing", delay=2, leave=False))
    drawn = (_draw_tracks(drawing.frames_numbered(video, [n])[0], tracks, i) for i, n in numbers)
    drawing.write_film(drawn, path, drawing.frame_rate(video))


def _draw_tracks(frame, tracks, place):
    """One frame, 640 to 1280 pixels at its longer side and even, with the tracks up to it: uint8
    (height, width, 3).

    A point has the colour of where it was picked: hue by its angle from the middle of all points,
    so that neighbours look similar and a wrong track stands out.
    """
    longer = max(frame.shape[:2])
    scale = min(1280, max(640, longer)) / longer
    size = np.maximum(1, np.round(np.array(frame.shape[1::-1]) * scale / 2)).astype(int) * 2
    grey = frame * 0.75 + 255 * 0.06  # a little dimmed, for the colours to show
    canvas = Image.fromarray(grey.astype(np.uint8)).resize(size * FINE, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    xy = tracks.xy * (FINE * size / tracks.size[::-1])
    away = tracks.queries[:, 1:] - tracks.queries[:, 1:].mean(0)
    hues = colormaps["hsv"]((np.arctan2(away[:, 1], away[:, 0]) / (2 * np.pi)) % 1)[:, :3]
    radius = max(3.0, min(size) / 110) * FINE
    # from one frame to the next: a point found again elsewhere leaves no line
    jump = 0.15 * max(size) * FINE
    for path, seen, hue in zip(xy, tracks.visible, hues, strict=True):
        colour = tuple((255 * hue).astype(int).tolist())
        for past in range(max(1, place - TAIL + 1), place + 1):
            if seen[past] and seen[past - 1] and np.linalg.norm(path[past] - path[past - 1]) < jump:
                thick = max(1, round(radius * 0.7 * (1 - (place - past) / (TAIL + 1))))
                pen.line([*path[past - 1], *path[past]], colour, thick)
        fill, line, width = (colour, "black", FINE) if seen[place] else (None, colour, 2 * FINE)
        pen.circle(path[place].tolist(), radius, fill, line, width)
    return np.asarray(canvas.resize(size, Image.Resampling.BOX))
