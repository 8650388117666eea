"""The encoder: clips to features on their true grid.

`Encoder.encode` is the way: plan which frames attend to each other, read a batch of frames while
the last one is encoded, tokens of each group of frames, append.
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
from vjepa_utils.fine import interleaved
from vjepa_utils.model.devices import batch_tokens, check_fits
from vjepa_utils.model.vjepa2 import encode_layers
from vjepa_utils.plan import Blend, Plan, context_length, picture_size
from vjepa_utils.reading.pixels import batches, read_ahead, resized
from vjepa_utils.sinks import open_sink
from vjepa_utils.video import Clip, Context, File, Grid, Size, Video, as_video

if TYPE_CHECKING:
    from vjepa_utils.predict.recovery import Held, Recovery
    from vjepa_utils.predict.surprise import Surprise


class Encoder:
    """A V-JEPA 2 encoder with true positions. Holds no state between calls.

    name, model, device, dtype; patch_size and tubelet_size in pixels and frames; channels; depth in
    blocks; training_size, the side of the squares a video encoder was trained on (None for an image
    encoder); mean and std of the pixel normalisation.
    """

    contexts = {None: 2, "pair": 2, "frame": 1}  # frames that attend to each other; "clip": all
    takes_single_frames = False  # a frame that is a context by itself is a pair with itself
    online = None  # the encoder that the predictor was trained on, if `load_encoder` has it

    def __init__(self, model, name, mean, std):
        self.model, self.name = model, name
        config = model.config
        self.patch_size, self.tubelet_size = config.patch_size, getattr(config, "tubelet_size", 1)
        self.channels, self.depth = config.hidden_size, config.num_hidden_layers
        self.training_size = getattr(config, "crop_size", None)
        self.mean, self.std = mean, std  # (3, 1, 1), for pixels from 0 to 1
        self.device, self.dtype = model.device, model.dtype

    def __repr__(self):
        return (
            f"Encoder({self.name!r}, {self.channels} channels, {self.depth} blocks, "
            f"{self.dtype}, on {self.device})"
        )

    def grid(self, video: Clip, size: Size = None, context: Context = None) -> Grid:
        """(steps, rows, columns) that `encode` would give."""
        return self.plan(as_video(video), context, size).grid

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
        """Features of a clip. Streams: one batch of frames is encoded while the next is read, and
        no more is held.

        Args:
            video: Video, path, array or tensor (see `as_video`).
            context: the frames that attend to each other. "pair" (the default): 0+1, 2+3, …;
                "clip": all; an even number: so many at a time; "frame": each independently, as a
                pair with itself (in V-JEPA 2.1 once: `VJEPA21Encoder`). An odd last frame is
                paired with itself.
            size: of the encoded picture. None: aspect kept, short side 256, or the training size if
                larger. An int: aspect kept, that short side. (height, width): exactly, multiples of
                the patch. Never a crop.
            layer: k in 1…depth for the output of block k, before the final norm; None for the final
                norm's.
            layers: several of these, such as [2, 4, None], or "all", from one forward pass.
            overlap: frames, an even number, that windows of an even `context` share; their
                features are averaged with weights that fall towards the ends of a window.
            stride: pixels between tokens, a divisor of the patch, which None stands for: the
                picture is encoded at shifts of so many pixels and the maps are interleaved, for
                patch / stride times the rows and columns and the square of that in time (`fine`).
            repeat: how often context "frame" feeds a frame; its features are the mean over the
                steps. The reference's evaluation on images has 16 (ViT-L) and 18 (ViT-g 384).
            out: None, or a file that the features go to instead of memory, such as
                "film.safetensors"; `Features.load` reads it. An interrupted run leaves OUT.partial,
                which the same call resumes; a complete file is only loaded.
        Returns:
            Features, values (steps, rows, columns, channels); with `out`, they are memory-mapped.
            `cuts` names the pairs of frames that share a tubelet although a cut lies between. With
            `layers`, {layer: Features}.
        Raises:
            UserError: an argument is out of range; features that are not finite; OUT.partial is of
                another run.
            MemoryError: the frames of one context cannot fit.
            OSError: `out` cannot be written.
        """
        video, wanted = as_video(video), self._layers(layer, layers, out)
        plan = self.plan(video, context, size, overlap, stride, repeat)
        self.check_memory(plan, "context={}")
        sinks = [open_sink(self, video, plan, k, out) for k in wanted]
        start, again = plan.resume(sinks[0].steps)
        read = start
        bar = dict(desc=f"encoding with {self.name}", unit="frame", delay=2, leave=False)
        with closing(sinks[0]), tqdm(total=len(video), initial=start, **bar) as progress:
            for steps, cuts, read in self._stream(video, plan, wanted, start, again):
                for sink, values in zip(sinks, steps, strict=True):
                    sink.note(cuts)
                    sink.append(values)
                progress.update(read - progress.n)
            frames, times = (plan.covered(each[:read]) for each in (video.indices, video.times))
            features = {k: s.finish(frames, times) for k, s in zip(wanted, sinks, strict=True)}
        return features if layers is not None else features[layer]

    def _stream(self, video, plan, layers, start, again):
        """From frame `start` on: the next steps of each layer, (steps, rows, columns, channels),
        the cuts in them, and how many frames were read by then.
        """
        blends, read, shared = [Blend(plan, again) for _ in layers], start, 0
        pinned = self.device.type == "cuda"  # from pinned memory a copy does not wait
        for pixels, cuts in read_ahead(batches(video[start:], plan, self.at_once(plan), pinned)):
            read, shared = read + len(pixels) - shared, plan.overlap
            pixels = self.normalised(pixels.to(self.device, non_blocking=pinned))
            for group in plan.groups(len(pixels)):  # (groups, length) positions in `pixels`
                encode = partial(self._tokens, layers=layers)
                tokens = interleaved(encode, pixels[group], plan.patch_size, plan.stride)
                joined = zip(blends, tokens, strict=True)
                yield [blend.join(self._on_grid(x, plan)) for blend, x in joined], cuts, read
                cuts = []
        if plan.overlap:
            yield [blend.rest() for blend in blends], [], read

    def plan(
        self,
        video: Video,
        context: Context = None,
        size: Size = None,
        overlap: int = 0,
        stride: int | None = None,
        repeat: int = 2,
    ) -> Plan:
        """The `Plan` that `encode` would follow; arguments as for it."""
        patch, length = self.patch_size, self._length(context, len(video))
        picture = picture_size(video.height, video.width, size, patch, self.training_size or 0)
        stride, once = patch if stride is None else stride, self.takes_single_frames
        return Plan(len(video), length, picture, patch, stride, once, overlap, repeat)

    def hold(self, video: Clip, size: Size = None) -> Held:
        """A clip encoded once, jointly, to ask often what the predictor recovers of hidden parts.

        Args:
            video: as for `encode`.
            size: as for `encode`.
        Returns:
            Held: `held.recover(hidden)` is a `Recovery`, as often as you like.
        Raises:
            UserError: there is no predictor of the encoder's own features.
            MemoryError: the frames cannot fit.
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
        """Predict the features of hidden tokens from the visible ones; all frames are encoded
        jointly (context "clip").

        Args:
            video: as for `encode`.
            hidden: bool (steps, rows, columns), True where hidden (see `masks`).
            mask_token: which of the checkpoint's mask tokens stands for a hidden one. None: the
                only one that is not zero; if there is not just one, 0 with a warning.
            size: as for `encode`. Where the picture is resized, pixels beside a hidden patch hold a
                trace of it.
        Raises:
            UserError: an argument is out of range, or there is no predictor.
            MemoryError: the frames cannot fit.
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
        """How far a clip is from what the predictor expects: for each step, the error of predicting
        it from the steps before alone (Garrido et al. 2025, arXiv 2502.11831).

        Args:
            video: as for `encode`.
            context: how many frames the encoder is given, an even number; the window slides over
                the clip by one step (two frames), and positions count from its start.
            horizon: how many of the steps after them are predicted, jointly.
            size: as for `encode`.
            target: what the features to predict are computed from: "window", the visible and the
                predicted frames jointly, as in training; "step", each predicted step alone.
            mask_token: as for `recover`.
        Returns:
            Surprise: for each step of the clip and each distance ahead a row, with baselines.
        Raises:
            UserError: an argument is out of range, the clip is shorter than context + 2 · horizon
                frames, or there is no predictor.
            MemoryError: a window cannot fit.
        """
        from vjepa_utils.predict.surprise import surprise  # not on the way from clips to features

        return surprise(self, as_video(video), context, horizon, size, target, mask_token)

    def pixels(self, frames: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
        """uint8 (n, H, W, 3) to normalised pixels (n, 3, height, width) in float32."""
        pixels = torch.empty(len(frames), 3, *size)
        for slot, frame in zip(pixels, frames, strict=True):  # large pictures in float32 are large
            slot.copy_(resized(frame, size))
        return self.normalised(pixels)

    def describe(self, video: Video, plan: Plan, layer: int | str | None = None) -> dict:
        """The fields of `Features` that are known before anything is encoded."""
        return dict(
            patch_size=self.patch_size,
            picture_size=plan.size,
            source_size=(video.height, video.width),
            encoder=self.name,
            stride=plan.stride,
            layer=layer,
        )

    @property
    def identity(self) -> dict:
        """All that features depend on, apart from the clip and how it is encoded: {word: JSON}."""
        return dict(
            encoder=self.name,
            weights=self.fingerprint,
            config=hashlib.sha256(repr(self.model.config).encode()).hexdigest()[:16],
            precision=str(self.dtype).removeprefix("torch."),
            mean=self.mean.flatten().tolist(),
            std=self.std.flatten().tolist(),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the encoder's weights, computed once. The same in float32 and bfloat16: they
        are rounded to the latter. The predictor is left out.
        """
        digest = hashlib.sha256()
        for name, parameter in self.model.named_parameters():
            if not name.startswith("predictor."):
                digest.update(
                    parameter.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy()
                )
        return digest.hexdigest()

    def check_memory(self, plan: Plan, remedy: str) -> None:
        """MemoryError, before any work, if the activations of a context exceed the free memory.

        remedy: what to set instead, with {} for the number of frames that fits.
        """
        what = f"{plan.context} frames encoded jointly are {plan.tokens} tokens and"

        def advice(share):
            fits = int(share * plan.steps) * 2
            return remedy.format(fits) + " fits" if fits >= 2 else "take a smaller size"

        check_fits(self.memory(plan), self.device, what, advice)

    def memory(self, plan: Plan) -> float:
        """Bytes that the activations of a context take at their peak: in the MLP, the residual, its
        norm, the hidden layer and its output; and the pixels in float32.
        """
        config = self.model.config
        wide = getattr(config, "intermediate_size", None) or self.channels * config.mlp_ratio
        channels = (3 * self.channels + wide) * self.dtype.itemsize
        pixels = 3 * self.tubelet_size * self.patch_size**2 * (8 + self.dtype.itemsize)
        return plan.tokens * (channels + pixels)

    def _layers(self, layer, layers, out):
        """The layers to read of one pass, checked."""
        if layers is None:
            wanted = [layer]
        elif layer is not None or out is not None:
            raise UserError("layers cannot be combined with layer or out: encode them one by one.")
        else:
            wanted = [*range(1, self.depth + 1)] if layers == "all" else list(layers)
        if not wanted or len(set(wanted)) < len(wanted):
            raise UserError(f'layers must be "all" or a list of different layers, not {layers!r}.')
        for k in wanted:
            self._check_layer(k)
        return wanted

    def _length(self, context, frames):
        """How many of the frames of a clip attend to each other."""
        return context_length(context, frames, self.contexts)

    def _check_layer(self, layer):
        if layer is not None and not (is_whole(layer, 1) and layer <= self.depth):
            raise UserError(
                f"layer must be None or a whole number from 1 to {self.depth} for {self.name}, "
                f"not {layer!r}."
            )

    def width(self, layer):
        """Channels of a layer's output."""
        return self.channels

    def at_once(self, plan):
        """How many contexts are encoded at once."""
        return max(1, batch_tokens(self.device) // plan.tokens)

    def normalised(self, pixels):
        """Pixels (n, 3, height, width) from 0 to 255, on any device, as the model takes them; in
        place.
        """
        mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
        return pixels.div_(255).sub_(mean).div_(std)

    def _tokens(self, pixels, shift=(0, 0), layers=(None,)):
        """(groups, frames, 3, height, width), shifted down and right by parts of a patch, to a
        tensor (groups, tokens, channels) for each layer.
        """
        if shift == (0, 0):
            return encode_layers(self.model, pixels, layers)
        steps = -(-pixels.shape[1] // self.tubelet_size)
        grid = steps, *(side // self.patch_size for side in pixels.shape[3:])
        return encode_layers(self.model, pixels, layers, self.model.positions(grid, None, shift))

    def _on_grid(self, tokens, plan):
        """(groups, tokens, channels) to float32 (groups, steps, rows, columns, channels), on the
        CPU.
        """
        values = tokens.float().cpu().unflatten(1, (-1, *plan.picture_grid))
        if plan.context == 1:  # of a frame that is fed often
            values = values.mean(1, keepdim=True)
        if not torch.isfinite(values).all():
            sound = all(torch.isfinite(p).all() for p in self.model.parameters())
            reason = (
                f"{self.dtype} overflows, load it with dtype=torch.float32"
                if sound
                else "its weights are not finite, fetch them again"
            )
            raise UserError(f"{self.name} gives features that are not finite: {reason}.")
        return values
