"""A clip with its packed features, ready to be looked at: the page that it writes, and what a notebook shows."""

import base64
import html
import io
import json
import math
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

import numpy as np
import torch
from PIL import Image

from vjepa_utils.colours import PCAColours
from vjepa_utils.explorer.components import PAIRS, Components, pack
from vjepa_utils.features import Features, replacing
from vjepa_utils.video import as_video

HERE = Path(__file__).parent
LIMIT = 50e6  # bytes of a page; above, browsers open it slowly or not at all
SMALL = 420_000  # bytes of the data that is stored in a notebook
PICTURE_SIDE, QUALITY = 512, 74  # short side of the stored frames in pixels at most, and WebP's quality
MASKS = ("block", "multiblock", "multiblock-long", "tubes", "tokens", "window", "future")


@dataclass
class View:
    """One encoder, or one layer of it, on the clip.

    features: Features.  layer: the block, None for the final norm.  colours: PCAColours of these features.
    components: Components.
    """

    features: Features
    layer: int | None
    colours: PCAColours
    components: Components


class Exploration:
    """What several encoders make of a clip; `explore` makes one, `save` writes it as a page.

    video: Video.  views: list of View, all on one grid.  predictions: list of dicts, as the page takes them.
    """

    def __init__(self, video, views, predictions=(), context="pair"):
        self.video, self.views, self.predictions = video, views, list(predictions)
        self.context = context
        self._pictures = {}

    @property
    def grid(self):
        """(steps, rows, columns) of every view."""
        return self.views[0].features.grid

    def page(self, steps=None, components=None, side=PICTURE_SIDE, views=None, predictions=True):
        """What a page shows, as JSON but for bytes: everything, or of some steps only, for a small one.

        Args:
            steps: positions of the steps to take, None for all.  components: at most so many of each view.
            side: of the pictures, pixels on the short side.  views: how many.  predictions: whether to take them.
        """
        video = self.video
        frames = self.views[0].features.frames.numpy()
        steps = np.arange(len(frames)) if steps is None else np.asarray(steps)
        places = np.searchsorted(video.indices, frames[steps, 0])
        pictures = [self._picture(place, side) for place in places]
        name = video.path.name if video.path else "clip"
        return {
            "clip": {"name": name, "width": video.width, "height": video.height, "frames": len(video)},
            "steps": [
                {"frames": frames[step].tolist(), "time": round(float(video.times[place]), 3), "picture": picture}
                for step, place, picture in zip(steps, places, pictures, strict=True)
            ],
            "whole": len(frames),
            "context": str(self.context),
            "views": [_view(view, steps, components) for view in self.views[:views]],
            "predictions": self.predictions if predictions else [],
        }

    def small_page(self, limit=SMALL):
        """The most of the clip that fits into `limit` bytes of JSON: fewer steps, views and components."""
        count = self.grid[0]
        for steps, components, views, side in (
            *((min(count, n), None, None, 320) for n in (12, 8, 6)),
            *((min(count, n), 48, 1, 256) for n in (6, 4, 3, 2)),
            *((min(count, n), k, 1, s) for n, k, s in ((2, 24, 192), (1, 32, 192), (1, 8, 128), (1, 3, 64))),
        ):
            chosen = np.unique(np.linspace(0, count - 1, steps).round().astype(int))
            page = self.page(chosen, components, side, views, predictions=False)
            if len(to_json(page)) <= limit:
                break
        return page

    def html(self, page=None):
        """The page as text: one HTML file that needs nothing else."""
        page = self.page() if page is None else page
        script = (HERE / "explorer.js").read_text(encoding="utf-8")
        style = (HERE / "explorer.css").read_text(encoding="utf-8")
        template = Template((HERE / "page.html").read_text(encoding="utf-8"))
        names = ", ".join(dict.fromkeys(view["encoder"] for view in page["views"]))
        title = html.escape(f"{page['clip']['name']} · {names}")
        return template.substitute(title=title, style=style, script=script, data=to_json(page))

    def save(self, path):
        """Write the page, one self-contained HTML file.

        Raises:
            ValueError: it would be larger than 50 MB; the sentence says what fits.  OSError: it cannot be written.
        """
        text = self.html()
        size = len(text.encode())
        if size > LIMIT:
            raise ValueError(_too_large(size, self.grid[0]))
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _repr_html_(self):
        """A small page in a frame, for a notebook without a kernel; below 1 MB."""
        return framed(self.html(self.small_page()), self.still())

    def still(self):
        """JPEG bytes: some frames above the colours of their features, for viewers that run no scripts."""
        view, shown = self.views[0], np.unique(np.linspace(0, self.grid[0] - 1, min(4, self.grid[0])).round().astype(int))
        frames = self.video.at(np.searchsorted(self.video.indices, view.features.frames[shown, 0].numpy()))
        painted = (view.colours.colours(replace(view.features, values=view.features.values[torch.from_numpy(shown)])) * 255).round()
        width = 200
        size = width, max(1, round(width * self.video.height / self.video.width))
        sheet = Image.new("RGB", ((width + 6) * len(shown) - 6, 2 * size[1] + 6), "white")
        for place, (frame, colours) in enumerate(zip(frames, painted, strict=True)):
            sheet.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), (place * (width + 6), 0))
            picture = Image.fromarray(colours.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
            sheet.paste(picture, (place * (width + 6), size[1] + 6))
        out = io.BytesIO()
        sheet.save(out, "JPEG", quality=80)
        return out.getvalue()

    def _picture(self, place, side):
        """WebP bytes of the frame at a position in the clip."""
        if (place, side) not in self._pictures:
            picture = Image.fromarray(self.video.at([place])[0])
            ratio = min(1, side / min(picture.size))
            size = [max(1, round(length * ratio)) for length in picture.size]
            out = io.BytesIO()
            picture.resize(size, Image.Resampling.LANCZOS).save(out, "WEBP", quality=QUALITY, method=4)
            self._pictures[place, side] = out.getvalue()
        return self._pictures[place, side]


def explore(video, encoders="vjepa2-demo", size=None, layers=(None,), masks=None, context="pair"):
    """Look around in the latent space of a clip: as the last value of a notebook cell it shows itself.

    Args:
        video: Video, path, array or tensor (see `as_video`).
        encoders: the name of one, or a list of names or `Encoder`s; all are put on the grid of the first.
        size: of the encoded picture for the first encoder, as for `Encoder.encode`.
        layers: blocks to show, from 1 to the depth, None for the final norm; of every encoder.
        masks: names of masks (see `MASKS`), or {name: bool array of the grid that `Encoder.grid(video, size, "clip")` gives},
            for which to show what the predictor recovers. The frames are encoded jointly for that.
        context: as for `Encoder.encode`; with an image encoder, "pair" or "frame".
    Returns:
        Explorer, a widget; `.save("page.html")` writes one HTML file. `.point` (x, y in pixels of the clip, or None), `.step` and
        `.mask` (bool array of the grid, or None) are what is chosen there. Without anywidget: an Exploration, which has `save`
        and shows a smaller page.
    Raises:
        ValueError: an argument is out of range, or the page would be larger than 50 MB.
    """
    import vjepa_utils as vj

    video = as_video(video)
    names = [encoders] if not isinstance(encoders, (list, tuple)) else list(encoders)
    loaded = [vj.load_encoder(name) if isinstance(name, (str, Path)) else name for name in names]
    found = look(video, loaded, size, layers, masks, context)
    try:
        from vjepa_utils.explorer.widget import Explorer
    except ImportError:
        warnings.warn("The explorer answers without a kernel only, as anywidget is missing: pip install anywidget", stacklevel=2)
        return found
    return Explorer(found, loaded, size, layers)


def look(video, encoders, size=None, layers=(None,), masks=None, context="pair"):
    """What `explore` shows, as an Exploration; encoders are a list of `Encoder`s."""
    video = as_video(video)
    if not encoders:
        raise ValueError("encoders is empty: name at least one.")
    names = [encoder.name for encoder in encoders]
    double = [name for place, name in enumerate(names) if name in names[:place]]
    if double:
        raise ValueError(f"{double[0]} is named twice: each encoder is shown once.")
    layers = (layers,) if layers is None or isinstance(layers, int) else tuple(layers)
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must name at least one block, each once, not {layers!r}.")
    if masks and not any(_predicts(encoder) for encoder in encoders):
        raise ValueError(f"{' and '.join(names)} has no predictor, so masks show nothing: add a V-JEPA 2 checkpoint.")
    grid = encoders[0].grid(video, size, context)
    estimate = _estimate(grid, [min(encoder.channels, 192) for encoder in encoders for _ in layers])
    if estimate > LIMIT:
        raise ValueError(_too_large(estimate, grid[0]))
    views = []
    for encoder in encoders:
        for layer in layers:
            own = size if encoder is encoders[0] else tuple(side * encoder.patch_size for side in grid[1:])
            features = encoder.encode(video, context, own, layer)
            if views and features.grid != views[0].features.grid:
                raise ValueError(f"{encoder.name} has {features.grid[0]} steps where {names[0]} has {grid[0]}: choose another context.")
            components, colours = pack(features)
            if views:
                colours.match(features, views[0].colours, views[0].features)
            views.append(View(features, layer, colours, components))
    predictions = [one for encoder in encoders if masks and _predicts(encoder) for one in _predictions(encoder, video, size, masks, views)]
    return Exploration(video, views, predictions, context)


def prediction(name, recovery, colours):
    """One mask and what was recovered of it, as the page takes it.

    Args:
        name: of the mask.  recovery: Recovery.  colours: PCAColours of its target.
    """
    grid, hidden = recovery.hidden.shape, recovery.hidden

    def painted(features):
        return zlib.compress((colours.colours(features) * 255).round().astype(np.uint8).tobytes(), 9)

    every = {"prediction": recovery.cosine} | {guess: errors["cosine"] for guess, errors in recovery.baselines.items()}
    cosine = np.stack(list(every.values()))  # (prediction and baselines, hidden)
    cosine = np.where(np.isnan(cosine), -128, np.rint(np.nan_to_num(cosine) * 127)).astype(np.int8)
    means = recovery.means()
    return {
        "name": name,
        "encoder": recovery.whole.encoder,
        "grid": list(grid),
        "picture": list(recovery.whole.picture_size),
        "frames": recovery.whole.frames.tolist(),
        "hidden": zlib.compress(hidden.astype(np.uint8).tobytes(), 9),
        "whole": painted(recovery.whole),
        "filled": painted(recovery.filled),
        "cosine": zlib.compress(cosine.tobytes(), 9),
        "means": [[guess, None if math.isnan(mean) else round(mean, 4)] for guess, mean in means.items()],
        "share": float(hidden.mean()),
        "beaten": round(recovery.beaten["all"], 4),
    }


def recovery_colours(whole, view, steps=slice(None)):
    """A basis for the features that `recover` targets, its three colours in the order and sign of a view's.

    The target is layer-normalised and its frames are encoded jointly, so it has a basis of its own.

    Args:
        whole: Features, the target.  view: View.  steps: those of the view that the target covers.
    """
    there = view.features[steps]
    values = torch.nn.functional.adaptive_avg_pool2d(there.values.permute(0, 3, 1, 2), whole.grid[1:]).permute(0, 2, 3, 1)
    colours = PCAColours().fit(whole)
    if len(values) == len(whole.values):
        colours.match(whole, view.colours, replace(there, values=values.contiguous()))
    return colours


def named_masks(names, grid):
    """{name: bool array of the grid} with the default share of each of `MASKS`, seed 0; "future" hides the second half."""
    from vjepa_utils import masks

    make = {
        "block": lambda: masks.block(grid),
        "multiblock": lambda: masks.multiblock(grid, "short"),
        "multiblock-long": lambda: masks.multiblock(grid, "long"),
        "tubes": lambda: masks.tubes(grid),
        "tokens": lambda: masks.tokens(grid),
        "window": lambda: masks.window(grid),
        "future": lambda: masks.future(grid, (grid[0] - 1) // 2),
    }
    unknown = [name for name in names if name not in make]
    if unknown:
        raise ValueError(f"There is no mask {unknown[0]!r}: choose among {', '.join(MASKS)}.")
    return {name: make[name]() for name in names}


def to_json(page):
    """The page's data as JSON that may stand in an HTML file: bytes as base64, no "<"."""
    text = json.dumps(page, default=lambda data: {"base64": base64.b64encode(data).decode()}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def framed(page, still):
    """HTML that shows a page in a frame, and a still picture where frames and scripts are taken out."""
    picture = base64.b64encode(still).decode()
    hide = "this.previousElementSibling.style.display='none'"
    return (
        f'<div><img alt="Frames above the colours of their features" style="max-width:100%" src="data:image/jpeg;base64,{picture}">'
        f'<iframe onload="{hide}" style="width:100%;height:820px;border:0" sandbox="allow-scripts" '
        f'srcdoc="{html.escape(page)}"></iframe></div>'
    )


def _view(view, steps, most):
    """A View as the page takes it, of some steps and at most so many components."""
    features, packed = view.features, view.components.fewer(most or view.components.count, view.features)
    taken = replace(packed, values=np.ascontiguousarray(packed.values[steps]))
    vectors = ("scale", "mean", "low", "high", "explained")
    return {
        "encoder": features.encoder,
        "layer": view.layer,
        "grid": list(taken.values.shape[:3]),
        "picture": list(features.picture_size),
        "patch": features.patch_size,
        "channels": features.values.shape[-1],
        "components": packed.count,
        "values": taken.packed,
        "rest": packed.rest,
        "black": packed.black,
        "error": {name: round(value, 5) for name, value in packed.error.items()},
        "pairs": PAIRS,
        **{name: getattr(packed, name).astype(float).tolist() for name in vectors},
    }


def _predicts(encoder):
    return getattr(encoder.model, "predictor", None) is not None


def _predictions(encoder, video, size, masks, views):
    """Predictions of one encoder, as the page takes them."""
    if not isinstance(masks, dict):  # frames are encoded jointly, so by name at no more than the usual size
        usual, asked = (encoder.grid(video, each, "clip") for each in (None, size))
        size, grid = (None, usual) if math.prod(usual) < math.prod(asked) else (size, asked)
        masks = named_masks([masks] if isinstance(masks, str) else masks, grid)
    view = next(view for view in views if view.features.encoder == encoder.name)
    found = encoder.recover(video, masks, size=size)
    colours = recovery_colours(next(iter(found.values())).whole, view)
    return [prediction(name, recovery, colours) for name, recovery in found.items()]


def _estimate(grid, channels):
    """About how many bytes a page takes: half of the channels are kept, and deflating them saves a third."""
    steps, rows, columns = grid
    return steps * (rows * columns * sum(channels) * 0.33 + 45e3) * 4 / 3


def _too_large(size, steps):
    fits = int(steps * 0.95 * LIMIT / size)
    advice = f"{fits} of the {steps} steps fit, so take fewer frames (count or every) or a smaller size"
    limit = f"{size / 1e6:.0f} MB, and browsers open {LIMIT / 1e6:.0f} MB at most well"
    return f"The page would take about {limit}: {advice if fits else 'take a smaller size'}."
