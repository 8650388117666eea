"""Pictures as clips: a folder of images, or all pictures of one file."""

import re
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps

from vjepa_utils.checks import UserError
from vjepa_utils.reading import RATE

IMAGES = {".png", ".apng", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
# raised by Pillow on damaged files
UNREADABLE = OSError, EOFError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError
UNTIMED = 100  # milliseconds for which browsers show a picture of duration 0


class ImageFolder:
    """Images of one size, in natural order: 2.png before 10.png."""

    lost, tick, no_clock = "", 1e-3, f"a folder has no clock: {RATE} images a second are assumed"

    def __init__(self, path):
        files = [p for p in path.iterdir() if p.suffix.lower() in IMAGES and p.name[0] != "."]
        if not files:
            raise UserError(f"The folder {path} holds no images ({', '.join(sorted(IMAGES))}).")
        natural = lambda p: [int(w) if w.isdecimal() else w for w in re.split(r"(\d+)", p.name)]
        self.files = sorted(files, key=natural)
        self.times, self.end = np.arange(len(files)) / RATE, len(files) / RATE
        self.size = self._read(self.files[0]).shape[:2]

    def read(self, numbers: np.ndarray) -> np.ndarray:
        return np.stack([self._read(self.files[number]) for number in numbers])

    def _read(self, file):
        with _opened(file) as image:
            if _pages(image) > 1:
                remedy = "a folder is of single ones: remove it, or read it alone"
                raise UserError(f"{file} holds {_pages(image)} pictures, and {remedy}.")
            return _rgb(image, file, getattr(self, "size", None))


class PictureFile:
    """All pictures of one file: a single one, an animation, or the pages of a stack."""

    def __init__(self, path):
        self.path, self.lost, self.no_clock, self.tick = path, "", "", 1e-3
        with _opened(path) as image:
            count, shown = _pages(image), []  # how many, and seconds that each is shown
            self.size = _rgb(image, path).shape[:2]
            if image.format == "TIFF" or count == 1:
                shown = [1 / RATE] * count
                if count > 1:
                    self.no_clock = f"a TIFF has no clock: {RATE} pages a second are assumed"
            while len(shown) < count:
                try:
                    image.seek(len(shown))
                    image.load()
                except UNREADABLE:
                    self.lost = f"{len(shown)} of its {count} pictures can be read"
                    break
                shown.append((image.info.get("duration") or UNTIMED) / 1000)
        self.times, self.end = np.cumsum([0, *shown[:-1]]), sum(shown)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        frames = []
        with _opened(self.path) as image:
            for number in numbers:
                image.seek(int(number))
                frames.append(_rgb(image, self.path, self.size))
        return np.stack(frames)


@contextmanager
def _opened(path):
    """A file as Pillow opens it; what Pillow raises becomes a UserError."""
    try:
        with Image.open(path) as image:
            yield image
    except UserError:
        raise
    except UNREADABLE:
        raise UserError(f"{path} cannot be read as an image; repair or remove it.") from None


def _pages(image):
    """How many frames an image holds; further pictures of an MPO are previews and depth maps."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _rgb(image, path, size=None):
    """uint8 (height, width, 3) of an opened image, upright; UserError if it is not of this size."""
    image = ImageOps.exif_transpose(image)
    if size and image.size[::-1] != size:
        sizes = f"{image.width}×{image.height} pixels, the first image {size[1]}×{size[0]}"
        raise UserError(f"{path} is {sizes}: all must be of one size.")
    if image.mode[0] not in "FI":
        return np.asarray(image.convert("RGB"))
    grey = np.asarray(image) / (65535 if image.mode.startswith("I;16") else 1)
    if not (grey.min() >= 0 and grey.max() <= 1):  # NaN fails both
        numbers = f"numbers from {grey.min():.4g} to {grey.max():.4g}"
        raise UserError(f"{path} holds {numbers}, not from 0 to 1, white: save it with 16 bits.")
    return (grey * 255).round().astype(np.uint8)[..., None].repeat(3, -1)
