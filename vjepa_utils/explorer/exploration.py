"""A clip with its packed features, as the explorer shows it."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

from PIL import Image

from vjepa_utils import figures
from vjepa_utils.checks import UserError
from vjepa_utils.colours import PCAColours
from vjepa_utils.drawing import evenly
from vjepa_utils.explorer.components import Components
from vjepa_utils.explorer.page import document, framed, to_json
from vjepa_utils.features import Features
from vjepa_utils.files import check_writable, replacing

LIMIT = 50e6  # bytes of a page; above, browsers open it slowly or not at all
SMALL = 450_000  # bytes of the data that a notebook stores: its cell stays below 1 MB
PICTURE_SIDE, QUALITY = 512, 74  # short side of the stored frames in pixels at most; of WebP
# How small pages are tried: (steps, views, side of the frames)
SMALLER = (12, None, 320), (6, None, 320), (4, None, 256), (8, 1, 256), (4, 1, 256), (1, 1, 192)


@dataclass
class View:
    """An encoder, or a layer of it (None: the final norm), on the clip; `colours` is the basis of
    its components, `pixels` what `packed_decoder` gives.
    """

    features: Features
    layer: int | None
    components: Components
    colours: PCAColours
    pixels: dict | None = None

    def packed(self, steps):
        """JSON values and bytes of some steps, as the page takes them."""
        features = self.features
        kept = replace(self.components, values=self.components.values[steps])
        return {
            "encoder": features.encoder,
            "layer": self.layer,
            "grid": list(kept.values.shape[:3]),
            "picture": list(features.picture_size),
            "channels": features.values.shape[-1],
            "pixels": self.pixels,
            **kept.packed(),
        }


class Exploration:
    """What encoders make of a clip: a `Video`, a list of `View`s on one grid, their context, a list
    of what `packed_prediction` gives. `look` makes one, `save` writes it as a page.
    """

    def __init__(self, video, views, context, predictions=()):
        self.video, self.views, self.context = video, views, context
        self.predictions = list(predictions)
        self._pictures = {}

    def __repr__(self):
        names = ", ".join(dict.fromkeys(view.features.encoder for view in self.views))
        steps, rows, columns = self.grid
        return f"Exploration({names}: {steps} steps of {rows}×{columns} patches)"

    @property
    def grid(self):
        """(steps, rows, columns) of every view."""
        return self.views[0].features.grid

    @property
    def frames(self):
        """int array (steps, 2), file numbers of each step's frames."""
        return self.views[0].features.frames.numpy()

    def page(self, most=None, views=None, side=PICTURE_SIDE, predictions=True):
        """What a page shows, JSON values and bytes: of all, or of at most so many steps, evenly
        spaced, views, and pixels of a frame's short side.
        """
        steps = evenly(self.grid[0], most or self.grid[0])
        video, frames = self.video, self.frames[steps]
        places = video.positions(frames[:, 0])
        size = {"width": video.width, "height": video.height, "frames": len(video)}
        return {
            "clip": {"name": video.name, **size},
            "context": str(self.context),
            "whole": self.grid[0],
            "steps": [
                {
                    "frames": pair.tolist(),
                    "time": round(float(video.times[place]), 3),
                    "picture": self._picture(place, side),
                }
                for pair, place in zip(frames, places, strict=True)
            ],
            "views": [view.packed(steps) for view in self.views[:views]],
            "predictions": self.predictions if predictions else [],
        }

    def small_page(self, limit=SMALL):
        """As much of `page` as fits into `limit` bytes of JSON: fewer steps and views; or None."""
        pages = (self.page(*less, predictions=False) for less in SMALLER)
        return next((page for page in pages if len(to_json(page)) <= limit), None)

    def save(self, path) -> None:
        """Write the page: one HTML file that needs no server, no network and no Python.

        Raises:
            UserError: it would be larger than 50 MB; the sentence says what fits.
            OSError: it cannot be written.
        """
        check_writable(path)
        data = document(self.page()).encode()
        _check_bytes(len(data), self.grid[0])
        with replacing(path) as temporary:
            temporary.write_bytes(data)

    def still(self):
        """JPEG bytes: some frames above the colours of their features, where no script may run."""
        view, file = self.views[0], io.BytesIO()
        figures.pca_strip(self.video, view.features, view.colours, most=6).savefig(
            file, format="jpeg"
        )
        return file.getvalue()

    def fallback(self, name="explorer"):
        """HTML below 1 MB for a notebook without a kernel: a small page, or a still picture."""
        return framed(self.small_page(), self.still(), name)

    def _repr_html_(self):
        return self.fallback()

    def _picture(self, place, side):
        """WebP bytes of the frame at a position in the clip."""
        if (place, side) not in self._pictures:
            picture = Image.fromarray(self.video[[place]].frames[0])
            ratio = min(1, side / min(picture.size))
            picture = picture.resize([max(1, round(length * ratio)) for length in picture.size])
            file = io.BytesIO()
            picture.save(file, "WEBP", quality=QUALITY)
            self._pictures[place, side] = file.getvalue()
        return self._pictures[place, side]


def check_size(grid, channels):
    """UserError, before any work, if the page of views of so many channels is too large."""
    steps, rows, columns = grid
    size = rows * columns * sum(0.33 * min(count, 192) for count in channels) + 45e3
    _check_bytes(steps * size * 4 / 3, steps)


def _check_bytes(size, steps):
    if size <= LIMIT:
        return
    fits = int(steps * 0.95 * LIMIT / size)
    advice = f"{fits} of its {steps} steps fit, so take fewer frames or a smaller size"
    raise UserError(
        f"The page would take about {size / 1e6:.0f} MB of at most {LIMIT / 1e6:.0f}: "
        f"{advice if fits else 'take a smaller size'}."
    )
