"""The encoder: clips to features on their true grid.

`Encoder.encode`: plan which frames attend to each other, read ahead, encode each group, append.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.features import Features
from vjepa_utils.joining import blended, interleaved
from vjepa_utils.model.devices import batch_tokens, check_fits
from vjepa_utils.model.vjepa2 import VJEPA2, encode_layers
from vjepa_utils.plan import Plan, context_length, open_sink, picture_size
from vjepa_utils.reading.pixels import batches, read_ahead, resized
from vjepa_utils.video import Clip, Context, File, Grid, Size, Video, as_video

if TYPE_CHECKING:
    from vjepa_utils.predict.recovery import Held, Recovery
    from vjepa_utils.predict.surprise import Surprise


class Encoder:
    """A V-JEPA 2 encoder with true positions. Holds no state between calls.

    name, model, device, dtype; patch_size and tubelet_size in pixels and frames; channels; depth in
    blocks; training_size, side of a video encoder's squares in training; mean and std of pixels.
    """

    contexts = {None: 2, "pair": 2, "frame": 1, "clip": None}  # frames that attend; None: all
    named_layers: dict[int | str | None, int] = {None: 1}  # {name: levels whose channels it has}
    takes_single_frames = False  # a frame that is a context by itself is a pair with itself
    online: VJEPA2 | None = None  # what the predictor was trained on, if `load_encoder` has it

    def __init__(self, model, name, mean, std):
        self.model, self.name = model, name
        config = model.config
        self.patch_size, self.tubelet_size = config.patch_size, getattr(config, "tubelet_size", 1)
        self.channels, self.depth = config.hidden_size, config.num_hidden_layers
        self.training_size = getattr(config, "crop_size", None)
        self.mean, self.std = mean, std  # (3, 1, 1), for pixels from 0 to 1
        self.device, self.dtype = model.device, model.dtype

    def __repr__(self):
        sizes = f"{self.channels} channels, {self.depth} blocks"
        return f"Encoder({self.name!r}, {sizes}, {self.dtype}, on {self.device})"

    @torch.no_grad()
    def encode(
        self,
        video: Clip,
        context: Context = None,
        size: Size = None,
        layer: int | str | None = None,
        layers: Sequence | str | None = None,
        overlap: int = 0,
        stride: int | None = None,
        repeat: int = 2,
        out: File | None = None,
    ) -> Features | dict[int | str | None, Features]:
        """Features of a clip, in a stream: while a batch of frames is encoded the next is read.

        Args:
            video: Video, path, array or tensor (see `as_video`).
            context: the frames that attend to each other. "pair" (the default): 0+1, 2+3, …;
                "clip": all; an even number: so many at a time; "frame": each as a pair with itself
                (in V-JEPA 2.1 once). An odd last frame is paired with itself.
            size: of the encoded picture. None: aspect kept, short side 256, or the training size if
                larger. An int: aspect kept, that short side. (height, width): exactly, multiples of
                the patch. Never a crop.
            layer: k in 1…depth for the output of block k, before the final norm; None: the norm's.
            layers: several of these, such as [2, 4, None], or "all", from one forward pass.
            overlap: frames, an even number, that windows of an even `context` share; their
                features are averaged with weights that fall towards the ends of a window.
            stride: pixels between tokens, a divisor of the patch, which None stands for. The
                picture is encoded at (patch / stride)² shifts, whose maps are interleaved.
            repeat: how often context "frame" feeds a frame; its features are the mean over the
                steps. The reference's evaluation on images has 16 (ViT-L) and 18 (ViT-g 384).
            out: a file for the features, such as "film.safetensors", that `Features.load` reads. An
                interrupted run leaves OUT.partial, which the same call resumes.
        Returns:
            Features, memory-mapped with `out`; with `layers`, {layer: Features}.
        Raises:
            UserError: an argument is out of range, OUT of another run, or a feature not finite.
            MemoryError, OSError: a context cannot fit, `out` cannot be written.
        """
        video, wanted = as_video(video), self._layers(layer, layers, out)
        plan = self.plan(video, context, size, overlap, stride, repeat)
        self.check_memory(plan, "context={}")
        sinks = [open_sink(self, video, plan, k, out) for k in wanted]
        start, again = plan.resume(sinks[0].steps)
        encoded, read = self._encoded(video, plan, wanted, start), start
        if plan.overlap:
            encoded = blended(encoded, plan, again)
        bar = dict(desc=f"encoding with {self.name}", unit="frame", delay=2, leave=False)
        with closing(sinks[0]), tqdm(total=len(video), initial=start, **bar) as progress:
            for steps, cuts, read in encoded:
                for sink, values in zip(sinks, steps, strict=True):
                    sink.append(values, cuts)
                progress.update(read - progress.n)
            frames, times = (plan.covered(each[:read]) for each in (video.indices, video.times))
            features = {k: s.finish(frames, times) for k, s in zip(wanted, sinks, strict=True)}
        return features if layers is not None else features[layer]

    def _encoded(self, video, plan, layers, start):
        """From frame `start` on, group after group: the steps of each layer, (steps, rows, columns,
        channels); the cuts in them; how many frames were read by then.
        """
        read, shared, encode = start, 0, partial(self._tokens, layers=layers)
        if plan.stride < plan.patch_size:
            encode = partial(interleaved, encode, patch=plan.patch_size, stride=plan.stride)
        pinned = self.device.type == "cuda"  # from pinned memory a copy does not wait
        for pixels, cuts in read_ahead(batches(video[start:], plan, self.at_once(plan), pinned)):
            read, shared = read + len(pixels) - shared, plan.overlap
            pixels = self.normalised(pixels.to(self.device, non_blocking=pinned))
            for group in plan.groups(len(pixels)):  # (groups, length) positions in `pixels`
                yield [self._on_grid(x, plan) for x in encode(pixels[group])], cuts, read
                cuts = []

    def plan(self, video, context=None, size=None, overlap=0, stride=None, repeat=2) -> Plan:
        """The `Plan` that `encode` would follow; arguments as for it."""
        length = context_length(context, len(video), self.contexts)
        patch, once = self.patch_size, self.takes_single_frames
        picture = picture_size(video.height, video.width, size, patch, self.training_size or 0)
        stride = patch if stride is None else stride
        return Plan(len(video), length, picture, patch, stride, once, overlap, repeat)

    def grid(self, video: Clip, size: Size = None, context: Context = None) -> Grid:
        """(steps, rows, columns) that `encode` would give."""
        return self.plan(as_video(video), context, size).grid

    def hold(self, video: Clip, size: Size = None) -> Held:
        """A clip encoded once, all frames jointly, to ask often: `held.recover(hidden)`. Arguments
        as for `encode`. UserError if there is no predictor of the encoder's own features.
        """
        from vjepa_utils.predict.recovery import Held  # not on the way from clips to features

        return Held(self, as_video(video), size)

    def recover(
        self,
        video: Clip,
        hidden: np.ndarray | torch.Tensor,
        mask_token: int | None = None,
        size: Size = None,
    ) -> Recovery:
        """Predict the features of hidden tokens from the visible ones: `hold`, asked once.

        Args:
            video, size: as for `encode`.
            hidden: bool (steps, rows, columns), True where hidden (see `masks`). Where the picture
                is resized, pixels beside a hidden patch hold a trace of it.
            mask_token: which of the checkpoint's stands for a hidden one. None: the only one that
                is not zero; if there is not just one, 0 with a warning.
        Raises:
            UserError, MemoryError: there is no predictor, the frames cannot fit.
        """
        return self.hold(video, size).recover(hidden, mask_token)

    @torch.no_grad()
    def surprise(
        self,
        video: Clip,
        context: int = 8,
        horizon: int = 1,
        size: Size = None,
        target: str = "window",
        mask_token: int | None = None,
    ) -> Surprise:
        """How far each step of a clip is from what is predicted from the steps before alone.

        Args:
            video, size: as for `encode`.
            context: frames that the encoder is given, an even number; the window slides by a step.
            horizon: how many steps after them are predicted, jointly.
            target: the features to predict, computed from "window", the visible and the predicted
                frames jointly, as in training, or "step", each predicted step alone.
            mask_token: as for `recover`.
        Raises:
            UserError, MemoryError: the clip is too short, a window cannot fit.
        """
        from vjepa_utils.predict.surprise import surprise

        return surprise(self, as_video(video), context, horizon, size, target, mask_token)

    def pixels(self, frames: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
        """uint8 (n, H, W, 3) to normalised pixels (n, 3, height, width) in float32."""
        return self.normalised(torch.stack([resized(frame, size) for frame in frames]))

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (n, 3, height, width) from 0 to 255 as the model takes them; in place."""
        mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
        return pixels.div_(255).sub_(mean).div_(std)

    def describe(self, video: Video, plan: Plan, layer: int | str | None = None) -> dict:
        """The fields of `Features` that are known before anything is encoded."""
        sizes = dict(picture_size=plan.size, source_size=(video.height, video.width))
        spacing = dict(patch_size=self.patch_size, stride=plan.stride)
        context = plan.context if plan.context > 1 or plan.once else plan.repeat
        return dict(encoder=self.name, layer=layer, context=context, **sizes, **spacing)

    @property
    def identity(self) -> dict:
        """All that features depend on, apart from the clip and how it is encoded: {word: JSON}."""
        config = hashlib.sha256(repr(self.model.config).encode()).hexdigest()[:16]
        pixels = dict(mean=self.mean.flatten().tolist(), std=self.std.flatten().tolist())
        weights = dict(weights=self.fingerprint, precision=str(self.dtype).removeprefix("torch."))
        return dict(encoder=self.name, config=config, **weights, **pixels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the encoder's weights, the predictor's aside, rounded to bfloat16."""
        digest = hashlib.sha256()
        for name, weight in self.model.named_parameters():
            if not name.startswith("predictor."):
                digest.update(weight.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy())
        return digest.hexdigest()

    def check_memory(self, plan: Plan, remedy: str) -> None:
        """MemoryError if a context does not fit. remedy: what to set, {} for how many frames."""
        fits = lambda share: int(share * plan.steps) * 2
        smaller = "take a smaller size"
        advice = lambda free: remedy.format(fits(free)) + " fits" if fits(free) else smaller
        what = f"{plan.context} frames encoded jointly are {plan.tokens} tokens and"
        check_fits(self.memory(plan), self.device, what, advice)

    def memory(self, plan: Plan) -> float:
        """Bytes of a context at its peak, in the MLP, and of its pixels in float32."""
        config, number = self.model.config, self.dtype.itemsize
        wide = getattr(config, "intermediate_size", None) or self.channels * config.mlp_ratio
        pixels = 3 * self.tubelet_size * self.patch_size**2
        return plan.tokens * ((3 * self.channels + wide) * number + pixels * (8 + number))

    def at_once(self, plan: Plan) -> int:
        """How many contexts are encoded at once."""
        return max(1, batch_tokens(self.device) // plan.tokens)

    def _layers(self, layer, layers, out):
        """The layers to read of one pass, checked."""
        if layers is not None and (layer is not None or out is not None):
            raise UserError("layers cannot be combined with layer or out: encode them one by one.")
        wanted = [layer] if layers is None else layers
        wanted = list(range(1, self.depth + 1) if layers == "all" else wanted)
        if not wanted or len(set(wanted)) < len(wanted):
            raise UserError(f'layers must be "all" or a list of different layers, not {layers!r}.')
        for k in wanted:
            if k not in self.named_layers and not (is_whole(k, 1) and k <= self.depth):
                names = "".join(f', "{name}"' for name in self.named_layers if name)
                known = f"None or a whole number from 1 to {self.depth} for {self.name}{names}"
                raise UserError(f"layer must be {known}, not {k!r}.")
        return wanted

    def _tokens(self, pixels, shift=(0, 0), layers=(None,)):
        """Pixels, shifted by parts of a patch, to (groups, tokens, channels) of each layer."""
        return encode_layers(self.model, pixels, layers, shift)

    def _on_grid(self, tokens, plan):
        """(groups, tokens, channels) to float32 (steps, rows, columns, channels) on the CPU."""
        values = tokens.float().cpu().unflatten(1, (-1, *plan.picture_grid))
        if plan.context == 1:  # of a frame that is fed often
            values = values.mean(1, keepdim=True)
        return self.finite(values).flatten(0, 1)

    def finite(self, values: torch.Tensor) -> torch.Tensor:
        """Features of this encoder; UserError, with the reason, if they are not finite."""
        if not values.isfinite().all():
            reason = f"{self.dtype} overflows to NaN, load it with dtype=torch.float32"
            if not all(weight.isfinite().all() for weight in self.model.parameters()):
                reason = "its weights hold NaN or infinity, fetch them again"
            raise UserError(f"{self.name} gives features that are not finite: {reason}.")
        return values
