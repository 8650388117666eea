"""The explorer in a notebook, with a kernel behind it: hide a region, and see what is recovered."""

from __future__ import annotations

import numpy as np
import traitlets
from IPython.display import display

from vjepa_utils import recovery
from vjepa_utils.checks import UserError, require
from vjepa_utils.explorer.page import HERE, script, to_json
from vjepa_utils.explorer.prediction import packed_edit, packed_pixels, packed_prediction, predicts
from vjepa_utils.predict.masks import future
from vjepa_utils.segmentation import Masks, segment

anywidget = require("anywidget", "notebook")
AT_ONCE = 1400  # tokens encoded jointly around the step that is shown: an answer within a second


class Explorer(anywidget.AnyWidget):
    """An Exploration in a notebook; `explore` makes it.

    point: (x, y) in pixels of the clip, the chosen patch, or None; may be set.
    step: that is shown, from 0; may be set.
    mask: bool array (steps, rows, columns), True where hidden, or None; may be set.
    edit: two such points, or None: the features of the patch at the first are put at the second, in
        the step and those before, and the predictor forecasts the next ones; may be set.
    clicks: [{"step", "x", "y", "thing", "is"}] of *Segment*: whether what is there is that thing.
    exploration: what is shown.
    recovery: the Recovery of the mask around the step, or None.
    edited: the `recovery.Edit`, or None.
    """

    _esm = script()
    _css = HERE / "explorer.css"
    _fallback = traitlets.Unicode().tag(sync=True)  # id of the page that is shown until this lives
    point = traitlets.Tuple(*2 * [traitlets.Float()], default_value=None, allow_none=True)
    point.tag(sync=True, from_json=lambda value, widget: value and tuple(value))
    edit = traitlets.Tuple(*2 * [traitlets.Tuple()], default_value=None, allow_none=True)
    edit.tag(sync=True, from_json=lambda value, widget: value and tuple(map(tuple, value)))
    step = traitlets.Int(0).tag(sync=True)
    clicks = traitlets.List().tag(sync=True)
    mask = traitlets.Any(None).tag(
        sync=True,
        to_json=lambda mask, widget: mask if mask is None else mask.ravel().tolist(),
        from_json=lambda hidden, widget: hidden and np.array(hidden, bool).reshape(widget.grid),
    )

    def __init__(self, exploration):
        self.exploration, self.recovery, self.edited = exploration, None, None
        self.grid = exploration.grid
        whole = exploration.views[0].features.offset == 0  # a predictor takes whole patches
        self._encoder = next(filter(predicts, exploration.encoders), None) if whole else None
        self._held = None, None  # the window that it holds, and what is held
        super().__init__()
        self._fallback = f"explorer-{self.model_id}"
        self.on_msg(self._asked)

    @property
    def masks(self) -> Masks | None:
        """What was clicked in *Segment* as `Masks` of full size, in the first frame of each step,
        by the features of the first view; None before a click.
        """
        if not any(click["is"] for click in self.clicks):
            return None
        clip, features = self.exploration.video, self.exploration.views[0].features
        numbers, points = features.frames[:, 0].tolist(), {}
        for click in self.clicks:  # label 0 is "not this", a thing's is its number from 1
            label = (click["thing"] + 1) * click["is"]
            marks = points.setdefault(numbers[click["step"]], [])
            marks.append((click["x"], click["y"], label))
        return segment(clip[clip.positions(numbers)], features, points=points)

    def save(self, path) -> None:
        """Write what is shown as one HTML file; see `Exploration.save`."""
        self.exploration.save(path)

    def _ipython_display_(self):
        # Two outputs: a viewer without a kernel has no use for the second, and keeps the first.
        html = self.exploration.fallback(self._fallback)
        display({"text/html": html, "text/plain": repr(self.exploration)}, raw=True)
        display(self._repr_mimebundle_()[0] | {"text/plain": ""}, raw=True)

    @traitlets.validate("point", "edit", "step", "mask")
    def _check(self, proposal):
        name, value = proposal.trait.name, proposal.value
        video, grid = self.exploration.video, self.grid
        if name == "step":
            fits, wanted = 0 <= value < grid[0], f"be from 0 to {grid[0] - 1}"
        elif value is None:
            return None
        elif name in ("point", "edit"):
            points = [value] if name == "point" else value
            fits = all(0 <= x <= video.width and 0 <= y <= video.height for x, y in points)
            wanted = f"lie in the picture, {video.width}×{video.height} pixels"
        else:
            value = np.asarray(value)
            fits, wanted = (value.dtype, value.shape) == (bool, grid), f"be bool, of shape {grid}"
        if not fits:
            raise traitlets.TraitError(f"{name} must {wanted}.")
        return value

    @traitlets.observe("mask", "edit")
    def _changed(self, change):
        setattr(self, {"mask": "recovery", "edit": "edited"}[change.name], None)
        if change.new is not None:
            self._asked(self, {"ask": "recover" if change.name == "mask" else "edit"}, [])

    def _asked(self, widget, message, buffers):
        """Answer the browser; what goes wrong is said there, and a fault of ours is also raised."""
        answers = {"page": self._send_page, "prepare": self._around, "recover": self._recover}
        answers |= {"decode": self._decode, "edit": self._edit}
        try:
            answers[message["ask"]]()
        except Exception as error:
            expected = isinstance(error, (UserError, OSError, MemoryError))
            text = f"{error}" if expected else f"The kernel failed, {error!r}"
            self.send({"kind": "say", "text": text})
            if not expected:
                raise

    def _send_page(self):
        page, predicts = to_json(self.exploration.page()), self._encoder is not None
        self.send({"kind": "page", "page": page, "predicts": predicts})

    def _recover(self):
        """Recover the mask on the frames around the step, and send what was found."""
        held, view, steps = self._around()
        covered, pairs = self.exploration.frames[steps], held.whole.frames.numpy()
        # a pair is hidden where a step that shares a frame with it is: (pairs, steps)
        shares = (covered[:, 0] <= pairs[:, 1:]) & (covered[:, 1] >= pairs[:, :1])
        self.recovery = held.recover(np.stack([self.mask[steps][some].any(0) for some in shares]))
        prediction = packed_prediction("painted", self.recovery, view)
        self.send({"kind": "prediction", "prediction": to_json(prediction)})

    def _decode(self):
        """Send the pixels of what was recovered."""
        pixels = packed_pixels(self.recovery, self.exploration.video)
        self.send({"kind": "pixels", "pixels": to_json(pixels)})

    def _edit(self):
        """Forecast the steps after the one that is shown from the moved patch."""
        held, view, _ = self._around(4)
        now = int((held.whole.frames[:, 0] <= self.exploration.frames[self.step, 1]).sum()) - 1
        if now == held.grid[0] - 1:
            raise UserError("No step follows this one, to be forecast: choose an earlier one.")
        taken, put = np.zeros((2, *held.grid), bool)
        for place, point in zip((taken, put), self.edit, strict=True):
            place[(slice(now + 1), *view.features.token_at(point))] = True
        self.edited = recovery.edit(self._encoder, held, put, taken, future(held.grid, now))
        self.send({"kind": "edit", "edit": to_json(packed_edit(self.edited, self.edit))})

    def _around(self, least=1):
        """What is held of the frames around the step, the View of its encoder, and the slice of
        steps. Prepared before anything is hidden, so that the first answer is fast too.
        """
        clip, encoder = self.exploration, self._encoder
        if encoder is None:
            raise UserError(
                "These encoders have no predictor of these tokens: take a V-JEPA 2 checkpoint, and "
                "no stride smaller than its patch."
            )
        view = next(v for v in clip.views if v.features.encoder == encoder.name)
        steps, rows, columns = clip.grid
        count = min(steps, max(least, AT_ONCE // (rows * columns)))
        first = min(max(0, self.step - count // 2), steps - count)
        around = slice(first, first + count)
        if self._held[0] != around:
            start, last = clip.video.positions([clip.frames[first, 0], clip.frames[around][-1, 1]])
            held = encoder.hold(clip.video[start : last + 1], view.features.picture_size)
            self._held = around, held
        return self._held[1], view, around
