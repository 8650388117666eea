"""The encoder: clips to features on their true grid."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.model.devices import free_memory
from vjepa_utils.model.vjepa2 import encode_tokens
from vjepa_utils.plan import Plan
from vjepa_utils.reading.cuts import cuts_between
from vjepa_utils.reading.pixels import resized
from vjepa_utils.stream import FeatureFile, FeatureList
from vjepa_utils.video import as_video

if TYPE_CHECKING:
    from vjepa_utils.annotations import Clip, Context, File, Grid, Size
    from vjepa_utils.features import Features
    from vjepa_utils.predict.recovery import Recovery
    from vjepa_utils.predict.surprise import Surprise
    from vjepa_utils.video import Video

# Enough to keep the device busy; bounds memory.
BATCH_TOKENS = {"cpu": 2048, "mps": 8192, "cuda": 32768}
# Even. Decoded frames of the clip's own size are held no longer than until they are resized.
FRAMES_AT_ONCE = 4


class Encoder:
    """A V-JEPA 2 encoder with true positions. Holds no state between calls.

    name, model, device, dtype; patch_size and tubelet_size in pixels and frames; channels; depth in
    blocks; training_size, the side of the squares a video encoder was trained on (None for an image
    encoder); mean and std of the pixel normalisation.
    """

    contexts = {None: 2, "pair": 2, "frame": 1}  # frames that attend to each other; "clip": all

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
        layer: int | None = None,
        positions: str = "true",
        out: File | None = None,
    ) -> Features:
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
            positions: "true", or "stock" for those that transformers itself would use, to see what
                they do.
            out: None, or a file that the features go to instead of memory, such as
                "film.safetensors"; `Features.load` reads it. An interrupted run leaves OUT.partial,
                which the same call resumes; a complete file is only loaded.
        Returns:
            Features, values (steps, rows, columns, channels); with `out`, they are memory-mapped.
            `cuts` names the pairs of frames that share a tubelet although a cut lies between.
        Raises:
            ValueError: an argument is out of range; OUT.partial is of another run.
            MemoryError: the frames of one context cannot fit.
            OSError: `out` cannot be written.
        """
        video = as_video(video)
        self._check_layer(layer)
        square, plan = self._square(positions), self.plan(video, context, size)
        self.check_memory(plan.tokens, plan.context, plan.tokens // plan.steps)
        batch = max(1, BATCH_TOKENS[self.device.type] // plan.tokens)  # contexts
        about = dict(
            patch_size=self.patch_size,
            picture_size=plan.size,
            source_size=(video.height, video.width),
            encoder=self.name,
        )
        if out is None:
            store = FeatureList(about)
        else:
            if video.path and Path(out).resolve() == video.path.resolve():
                raise UserError(f"out names the clip itself, {out}: give another file.")
            run = self._run(video, plan, layer, positions)
            shape = *plan.grid, self._width(layer)
            store = FeatureFile(out, run, about, shape, batch * plan.steps)
        start = len(video) if store.steps == plan.grid[0] else plan.first_frame(store.steps)
        with tqdm(
            total=len(video),
            initial=start,
            desc=f"encoding with {self.name}",
            unit="frame",
            delay=2,
            leave=False,
        ) as progress:
            batches = self._batches(video, start, batch * plan.context, plan)
            read = start
            for pixels, cuts in _read_ahead(batches):
                read += len(pixels)
                store.note(cuts)
                # from pinned memory, which only CUDA has, the copy does not wait
                pixels = self._normalised(pixels.to(self.device, non_blocking=pixels.is_pinned()))
                for group in plan.groups(len(pixels)):  # (groups, length) positions in `pixels`
                    x = self._tokens(pixels[group], layer, square)  # (groups, tokens, channels)
                    store.append(x.float().cpu().view(-1, *plan.picture_grid, x.shape[-1]))
                progress.update(len(pixels))
        return store.finish(plan.covered(video.indices[:read]))

    def plan(self, video: Video, context: Context = None, size: Size = None) -> Plan:
        """The `Plan` that `encode` would follow; arguments as for it."""
        return Plan(
            len(video),
            self._context_length(context, len(video)),
            self._picture_size(video.height, video.width, size),
            self.patch_size,
        )

    def _check_layer(self, layer):
        if layer is not None and not (is_whole(layer, 1) and layer <= self.depth):
            raise UserError(
                f"layer must be None or a whole number from 1 to {self.depth} for {self.name}, "
                f"not {layer!r}."
            )

    def _width(self, layer):
        """Channels of a layer's output."""
        return self.channels

    def _square(self, positions):
        """Side of the square grid that stock transformers counts on; None for true positions."""
        if positions not in ("true", "stock"):
            raise UserError(f'positions must be "true" or "stock", not {positions!r}.')
        if positions == "true":
            return None
        if self.training_size is None:
            raise UserError(
                f'positions="stock" is of V-JEPA 2; transformers gives {self.name}, an image '
                "encoder, true positions."
            )
        return self.training_size // self.patch_size

    def _run(self, video, plan, layer, positions):
        """Identifies a computation: files of equal runs hold the same features, bit for bit."""
        return dict(
            clip=video.identity,
            encoder=self.name,
            weights=self.fingerprint,
            device=self.device.type,
            dtype=self.dtype,
            mean=self.mean.tolist(),
            std=self.std.tolist(),
            size=plan.size,
            context=plan.context,
            layer=layer,
            positions=positions,
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

    @torch.no_grad()
    def recover(
        self,
        video: Clip,
        hidden: np.ndarray | torch.Tensor | dict,
        mask_token: int | None = None,
        size: Size = None,
    ) -> Recovery | dict[str, Recovery]:
        """Predict the features of hidden tokens from the visible ones; all frames are encoded
        jointly (context "clip").

        Args:
            video, size: as for `encode`. Where the picture is resized, pixels beside a hidden patch
                hold a trace of it.
            hidden: bool array or tensor of the grid, True where hidden (see `masks`), or {name:
                such an array}: these share one encoding of the whole clip.
            mask_token: which of the checkpoint's mask tokens stands for a hidden one. None: the
                only one that is not zero; if there is not just one, 0 with a warning.
        Returns:
            Recovery, or {name: Recovery}.
        Raises:
            ValueError: an argument is out of range, or there is no predictor.  MemoryError: the
                frames cannot fit.
        """
        # A study, on a higher line of docs/architecture.md: imported only when it is called.
        from vjepa_utils.predict.recovery import recover

        return recover(self, video, hidden, mask_token, size)

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
            video, size, mask_token: as for `recover`.
            context: how many frames the encoder is given, an even number; the window slides over
                the clip by one step (two frames), and positions count from its start.
            horizon: how many of the steps after them are predicted, jointly.
            target: what the features to predict are computed from. "window": the visible and the
                predicted frames jointly, as in training. "step": each predicted step alone.
        Returns:
            Surprise, a row for each step of the clip and each distance ahead, with baselines. The
            row of a step that is predicted from step t depends on frames of steps t − context/2 + 1
            … t + horizon and on no others ("step": of the future on its own alone).
        Raises:
            ValueError: an argument is out of range, the clip is shorter than one window of context
                + 2 · horizon frames, or there is no predictor.  MemoryError: a window cannot fit.
        """
        # A study, on a higher line of docs/architecture.md: imported only when it is called.
        from vjepa_utils.predict.surprise import surprise

        return surprise(self, video, context, horizon, size, target, mask_token)

    def _batches(self, video, start, count, plan):
        """Pixels of `count` frames at a time, 0 to 255, (n, 3, height, width), and file numbers of
        the pairs of frames, encoded as one tubelet, between which there is a cut.
        """
        for first in range(start, len(video), count):
            end, done, cuts = min(first + count, len(video)), 0, []
            pinned = self.device.type == "cuda"
            pixels = torch.empty(end - first, 3, *plan.size, pin_memory=pinned)
            for piece in video[:end].pieces(FRAMES_AT_ONCE, first):
                for slot, frame in zip(pixels[done:], piece.frames, strict=False):
                    slot.copy_(resized(frame, plan.size))
                if plan.context > 1:
                    pairs = np.arange(len(piece) // 2 * 2).reshape(-1, 2)
                    cuts += cuts_between(piece.frames, pairs, piece.indices)
                done += len(piece)
            if done:
                yield pixels[:done], cuts
            if done < len(pixels):  # a damaged file ends here
                return

    def _tokens(self, pixels, layer, square):
        return encode_tokens(self.model, pixels, layer=layer, square=square)

    def _context_length(self, context, frames):
        """How many frames of the clip attend to each other."""
        named = self.contexts | {"clip": frames}
        if isinstance(context, (str, type(None))) and context in named:
            return named[context]
        if is_whole(context) and context >= 2 and context % 2 == 0:
            return int(context)
        names = ", ".join(f'"{name}"' for name in named if name)
        raise UserError(f"context must be {names} or an even number of frames, not {context!r}.")

    def _picture_size(self, height, width, size):
        patch = self.patch_size
        if isinstance(size, (tuple, list)):
            if len(size) != 2 or not all(
                is_whole(v) and v >= patch and v % patch == 0 for v in size
            ):
                raise UserError(
                    f"size must be (height, width) in multiples of the patch, {patch} pixels, "
                    f"not {size!r}."
                )
            return tuple(int(v) for v in size)
        if size is None:
            size = max(16 * patch, self.training_size or 0)
        if not is_whole(size) or size < patch:
            raise UserError(
                f"size must be a number of pixels of at least the patch, {patch}, or (height, "
                f"width), not {size!r}."
            )
        return tuple(
            max(1, int(side * size / min(height, width) / patch + 0.5)) * patch
            for side in (height, width)
        )

    def pixels(self, frames: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
        """uint8 (n, H, W, 3) to normalised pixels (n, 3, height, width) in float32."""
        pixels = torch.empty(len(frames), 3, *size)
        # One at a time: large pictures in float32 are large.
        for slot, frame in zip(pixels, frames, strict=True):
            slot.copy_(resized(frame, size))
        return self._normalised(pixels)

    def _normalised(self, pixels):
        """Pixels (n, 3, height, width) from 0 to 255, on any device, as the model takes them; in
        place.
        """
        mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
        return pixels.div_(255).sub_(mean).div_(std)

    def check_memory(self, tokens, length, tokens_per_step, remedy="context={}"):
        """MemoryError, before any work, if the activations of a context exceed the free memory."""
        free = free_memory(self.device)
        # The peak is in the MLP: the residual, its norm, the hidden layer and its output; and the
        # pixels in float32.
        config = self.model.config
        wide = getattr(config, "intermediate_size", None) or self.channels * config.mlp_ratio
        channels = (3 * self.channels + wide) * self.dtype.itemsize
        pixels = 3 * self.tubelet_size * self.patch_size**2 * (8 + self.dtype.itemsize)
        per_token = channels + pixels
        if tokens * per_token > free:
            fits = int(free / per_token / tokens_per_step) * 2
            needs = (
                f"{length} frames encoded jointly are {tokens} tokens and need about "
                f"{tokens * per_token / 2**30:.1f} GiB"
            )
            advice = f"{remedy.format(fits)} fits" if 2 <= fits < length else "take a smaller size"
            raise MemoryError(f"{needs}, where {free / 2**30:.1f} GiB are free: {advice}.")


def _read_ahead(batches):
    """The items of a generator, each prepared by another thread while the last one is used."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch
