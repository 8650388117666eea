"""The explorer in a notebook, with a kernel behind it: hide a region, and see what is recovered."""

from __future__ import annotations

import time
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from vjepa_utils.checks import UserError
from vjepa_utils.explorer.explore import look, predicts
from vjepa_utils.explorer.page import script, to_buffers
from vjepa_utils.explorer.prediction import packed_prediction
from vjepa_utils.load import load_encoder

HERE = Path(__file__).parent
AT_ONCE = 1400  # tokens encoded jointly around the step that is shown: an answer within a second


def _sent(mask, widget):
    return (
        mask
        if mask is None
        else {
            "grid": list(mask.shape),
            "hidden": np.flatnonzero(mask).tolist(),
        }
    )


def _received(message, widget):
    if message is None:
        return None
    mask = np.zeros(np.prod(message["grid"]), bool)
    mask[message["hidden"]] = True
    return mask.reshape(message["grid"])


class Explorer(anywidget.AnyWidget):
    """An Exploration in a notebook; `explore` makes it.

    point: (x, y) in pixels of the clip, the chosen patch, or None; may be set.
    step: that is shown, from 0; may be set.
    mask: bool array (steps, rows, columns), True where hidden, or None; may be set.
    exploration: what is shown.
    recovery: the Recovery of the mask around the step, or None.
    """

    _esm = script()
    _css = HERE / "explorer.css"
    _fallback = traitlets.Unicode().tag(sync=True)  # id of the page that is shown until this lives
    point = traitlets.Tuple(*2 * [traitlets.Float()], default_value=None, allow_none=True)
    point.tag(sync=True, from_json=lambda value, widget: value and tuple(value))
    step = traitlets.Int(0).tag(sync=True)
    mask = traitlets.Any(None).tag(sync=True, to_json=_sent, from_json=_received)

    def __init__(self, exploration, encoders, size=None, layers=(None,), masks=None):
        self.exploration, self.recovery = exploration, None
        self._held = None, None  # the window that it holds, and what is held
        super().__init__()
        self._masks = None if isinstance(masks, dict) else masks  # arrays fit one grid only
        self._encoders, self._size, self._layers = list(encoders), size, layers
        self._fallback = f"explorer-{self.model_id}"
        self.on_msg(self._asked)

    def save(self, path) -> None:
        """Write what is shown as one HTML file; see `Exploration.save`."""
        self.exploration.save(path)

    def _ipython_display_(self):
        # Two outputs: a viewer without a kernel has no use for the second, and keeps the first.
        from IPython.display import display

        html = self.exploration.fallback(self._fallback)
        display({"text/html": html, "text/plain": repr(self.exploration)}, raw=True)
        bundle = self._repr_mimebundle_()
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        display(bundle | {"text/plain": ""}, raw=True)

    @traitlets.validate("step")
    def _check_step(self, proposal):
        last = self.exploration.grid[0] - 1
        if not 0 <= proposal.value <= last:
            raise traitlets.TraitError(f"step must be from 0 to {last}, not {proposal.value}.")
        return proposal.value

    @traitlets.validate("point")
    def _check_point(self, proposal):
        video, point = self.exploration.video, proposal.value
        if point and not (0 <= point[0] <= video.width and 0 <= point[1] <= video.height):
            raise traitlets.TraitError(
                f"point must lie in the picture, {video.width}×{video.height} pixels, not {point}."
            )
        return point

    @traitlets.validate("mask")
    def _check_mask(self, proposal):
        if proposal.value is None:
            return None
        mask, grid = np.asarray(proposal.value), self.exploration.grid
        if mask.dtype != bool or mask.shape != grid:
            raise traitlets.TraitError(
                f"mask must be bool of the shape {grid}, not {mask.dtype} of the shape "
                f"{mask.shape}."
            )
        return mask

    @traitlets.observe("mask")
    def _mask_changed(self, change):
        self._guarded(self._recover)

    def _asked(self, widget, message, buffers):
        answers = {"page": self._send_page, "prepare": self._around, "recover": self._recover}
        answers["encode"] = lambda: self._encode(message)
        if message.get("ask") in answers:
            self._guarded(answers[message["ask"]])

    def _guarded(self, answer):
        """What goes wrong is said in the browser; a fault of ours is also raised."""
        try:
            answer()
        except (UserError, OSError, MemoryError, traitlets.TraitError) as error:
            self.send({"kind": "say", "text": str(error), "keep": True})
        except Exception as error:
            text = f"The kernel failed, {type(error).__name__}: {error}"
            self.send({"kind": "say", "text": text, "keep": True})
            raise

    def _send_page(self):
        page, buffers = to_buffers(self.exploration.page())
        size = self._size
        live = {
            "encoders": [encoder.name for encoder in self._encoders],
            "size": "x".join(map(str, size)) if isinstance(size, (tuple, list)) else size,
            "layers": list(self._layers),
            "context": str(self.exploration.context),
            "predicts": any(map(predicts, self._encoders)),
        }
        self.send({"kind": "page", "page": page, "live": live}, buffers)

    def _encode(self, message):
        """Other encoders, size, layers or context, as typed; all stays as it is if they fail."""
        layers = tuple(_number(word) for word in message["layers"].split()) or (None,)
        sides = [_number(word) for word in message["size"].lower().split("x") if word.strip()]
        size = tuple(sides) if len(sides) > 1 else next(iter(sides), None)
        context = message["context"].strip() or "pair"
        context = int(context) if context.isdigit() else context
        known = {encoder.name: encoder for encoder in self._encoders}
        encoders = [known.get(name) or load_encoder(name) for name in message["encoders"].split()]
        masks = self._masks if any(map(predicts, encoders)) else None
        exploration = look(self.exploration.video, encoders, size, layers, masks, context)
        mask = self.mask if exploration.grid == self.exploration.grid else None
        self.exploration, self._encoders, self._held = exploration, encoders, (None, None)
        self._size, self._layers = size, layers
        self.step = min(self.step, exploration.grid[0] - 1)
        self.mask = mask
        self._send_page()

    def _recover(self):
        """Recover the mask on the frames around the step, and send what was found."""
        self.recovery = None
        if self.mask is None:
            return
        began = time.perf_counter()
        held, view, steps = self._around()
        covered, pairs = self.exploration.frames[steps], held.whole.frames.numpy()
        # a pair is hidden where a step that shares a frame with it is: (pairs, steps)
        shares = (covered[:, 0] <= pairs[:, 1:]) & (covered[:, 1] >= pairs[:, :1])
        hidden = np.stack([self.mask[steps][some].any(0) for some in shares])
        if hidden.all() or not hidden.any():
            what = "Everything" if hidden.all() else "Nothing"
            raise UserError(f"{what} is hidden around this step: hide some patches, not all.")
        self.recovery = held.recover(hidden)
        prediction = packed_prediction("painted", self.recovery, view)
        prediction["seconds"] = time.perf_counter() - began
        prediction, buffers = to_buffers(prediction)
        self.send({"kind": "prediction", "prediction": prediction}, buffers)

    def _around(self):
        """What is held of the frames around the step, the View of its encoder, and the slice of
        steps. Prepared before anything is hidden, so that the first answer is fast too.
        """
        exploration, encoder = self.exploration, next(filter(predicts, self._encoders), None)
        if encoder is None:
            raise UserError("These encoders have no predictor: take a V-JEPA 2 checkpoint.")
        view = next(v for v in exploration.views if v.features.encoder == encoder.name)
        steps, rows, columns = exploration.grid
        count = min(steps, max(1, AT_ONCE // (rows * columns)))
        first = min(max(0, self.step - count // 2), steps - count)
        around = slice(first, first + count)
        if self._held[0] != around:
            numbers = exploration.frames[around]
            start, last = exploration.video.positions([numbers[0, 0], numbers[-1, 1]])
            video = exploration.video[start : last + 1]
            self._held = around, encoder.hold(video, view.features.picture_size)
        return self._held[1], view, around


def _number(word):
    """A whole number as typed; None for "last"."""
    if word == "last":
        return None
    if not word.strip().isdigit():
        raise UserError(f"A whole number is needed, not {word!r}.")
    return int(word)
