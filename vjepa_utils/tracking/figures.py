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


def track_strip(video: Clip, tracks: Tracks, most: int = 6, tail: int = 8) -> Figure:
    """Frames of a clip with its tracks drawn in: a dot where a point is visible, a ring where it
    is hidden, a tail of where it was.

    Args:
        video: the clip that was tracked.
        tracks: of it, what `track` gave.
        most: frames.
        tail: its length in frames of the clip.
    """
    video = drawing.clip_of(video, tracks.size)
    chosen = drawing.evenly(len(tracks.frames), most)
    drawn = [
        _draw_tracks(frame, tracks, i, tail)
        for i, frame in zip(
            chosen, drawing.frames_numbered(video, tracks.frames[chosen]), strict=True
        )
    ]
    titles = [f"frame {tracks.frames[i]}" for i in chosen]
    heading = (
        f"{drawing.clip_caption(video, tracks.frames)} · {len(tracks.xy)} points tracked "
        f"independently · {tracks.encoder} · dot: visible, ring: hidden"
    )
    return drawing.gallery(drawn, titles, heading, height=2.4)


def animate_tracks(
    video: Clip, tracks: Tracks, path: File, tail: int = 8, rate: float | None = None
) -> None:
    """Write an .mp4 or .gif of the clip with its tracks, drawn as in `track_strip`, at most 1280
    pixels wide or high, `rate` frames a second; None takes that of the clip's times.
    """
    video = drawing.clip_of(video, tracks.size)
    numbers = enumerate(tqdm(tracks.frames, desc="drawing", delay=2, leave=False))
    drawn = (
        _draw_tracks(drawing.frames_numbered(video, [n])[0], tracks, i, tail) for i, n in numbers
    )
    drawing.write_film(drawn, path, rate or drawing.frame_rate(video))


def _draw_tracks(frame, tracks, place, tail):
    """One frame, 640 to 1280 pixels at its longer side and even, with the tracks up to it: uint8
    (height, width, 3).

    A point has the colour of where it was picked: hue by its angle from the middle of all points,
    so that neighbours look similar and a wrong track stands out.
    """
    longer = max(frame.shape[:2])
    scale = min(1280, max(640, longer)) / longer
    width, height = (2 * max(1, round(side * scale / 2)) for side in frame.shape[1::-1])
    fine = 2  # drawn twice as large and made smaller: smooth lines
    grey = frame * 0.75 + 255 * 0.06  # a little dimmed, for the colours to show
    canvas = Image.fromarray(grey.astype(np.uint8)).resize(
        (width * fine, height * fine), Image.Resampling.BICUBIC
    )
    pen = ImageDraw.Draw(canvas)
    xy = tracks.xy * np.array([width, height]) / np.array(tracks.size[::-1]) * fine
    away = tracks.queries[:, 1:] - tracks.queries[:, 1:].mean(0)
    colours = (
        colormaps["hsv"]((np.arctan2(away[:, 1], away[:, 0]) / (2 * np.pi)) % 1)[:, :3] * 255
    ).astype(int)
    radius = max(3.0, min(width, height) / 110) * fine
    # from one frame to the next: a point found again elsewhere leaves no line
    jump = 0.15 * max(width, height) * fine
    for path, seen, colour in zip(xy, tracks.visible, colours, strict=True):
        colour = tuple(int(c) for c in colour)
        for past in range(max(1, place - tail + 1), place + 1):
            if seen[past] and seen[past - 1] and np.linalg.norm(path[past] - path[past - 1]) < jump:
                thick = max(1, round(radius * 0.7 * (1 - (place - past) / (tail + 1))))
                pen.line([*path[past - 1], *path[past]], colour, thick)
        x, y = path[place]
        if seen[place]:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], colour, "black", fine)
        else:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], None, colour, 2 * fine)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))
