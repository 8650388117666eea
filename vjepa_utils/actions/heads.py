"""Which action is it? The released classification heads on any clip, evaluated as their authors do.

Each is a V-JEPA 2 encoder, transformers' attentive pooler (three blocks of self-attention, then a
learnt query that attends to all tokens) and a linear layer (Assran et al. 2025). For your own
classes, see `probing`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, check_counts, is_whole
from vjepa_utils.encoder import Encoder
from vjepa_utils.model.devices import best_device, check_fits, fast_dtype
from vjepa_utils.model.vjepa2 import encode_layers, encode_tokens
from vjepa_utils.video import Clip, File, as_video
from vjepa_utils.weights.checkpoints import find, label, pixel_statistics
from vjepa_utils.weights.models import load_model


@dataclass(frozen=True)
class Reading:
    """What a head reads of a clip, and how: none of it is in the files of a checkpoint.

    segments: how many of the clip.
    step: between the frames of a segment.
    pooler_heads: of its attention, a divisor of the channels; None for the encoder's.
    pooler_eps: epsilon of its layer norms; None for the encoder's.
    levels: numbers of the blocks that are read, from 1 on, through the final norm; () for the last.
    """

    segments: int = 2
    step: int = 4
    pooler_heads: int | None = None
    pooler_eps: float | None = None
    levels: tuple = ()


# The released heads, as the reference's configs/inference and src/models/attentive_pooler.py have
# them. Heads that are not listed were trained with transformers, or are set by hand.
READINGS = {
    "vjepa2-vitl-fpc16-256-ssv2": Reading(2, 4, 16, 1e-5),
    "vjepa2-vitg-fpc64-384-ssv2": Reading(2, 2, 16, 1e-5),
    "vjepa2-vitl-fpc32-256-diving48": Reading(4, 2, 16, 1e-5, (18, 20, 22, 24)),
    "vjepa2-vitg-fpc32-384-diving48": Reading(4, 2, 16, 1e-5, (25, 30, 35, 40)),
}
VIEWS = 3  # square crops along the long side
POOLER_COPIES = 12  # of its tokens in memory at the peak, in the MLP (measured)


@dataclass
class Classification:
    """What a head or a probe says of a clip.

    labels: the likeliest class names, best first.
    probabilities: theirs, float array (top,): the mean of the views' softmax.
    logits: float32 tensor (views, classes); a probe has one view.
    frames: int array (segments, frames), file numbers of the frames used.
    name: of the head.
    remark: why it cannot be trusted, or "".
    """

    labels: list
    probabilities: np.ndarray
    logits: torch.Tensor
    frames: np.ndarray
    name: str
    remark: str = ""

    @classmethod
    def of(cls, logits, names, top, frames, name, remark=""):
        check_counts(top=top)
        mean = logits.softmax(1).mean(0)
        best = mean.argsort(descending=True, stable=True)[:top]
        return cls([names[i] for i in best], mean[best].numpy(), logits, frames, name, remark)

    def table(self) -> str:
        """Labels and probabilities as text."""
        width, rows = max(map(len, self.labels)), zip(self.labels, self.probabilities, strict=True)
        lines = [f"{name:{width}}  {share:6.1%}" for name, share in rows]
        parts = " and ".join(f"{part[0]} to {part[-1]}" for part in self.frames)
        views = f", {len(self.logits)} views" if len(self.logits) > 1 else ""
        lines.append(f"{self.name}, {self.logits.shape[1]} classes; frames {parts}{views}.")
        return "\n".join([*lines, self.remark] if self.remark else lines)


def classify(
    video: Clip, checkpoint: File, top: int = 5, reading: Reading | None = None
) -> Classification:
    """The likeliest actions by a checkpoint with a classification head, as the reference evaluates
    it (facebookresearch/vjepa2, evals/video_classification_frozen); stock transformers gives other
    answers without an error (`benchmarks/stock_heads.py`).

    Of the frames of each segment three square views along the long side are encoded. The tokens of
    all segments of a view are joined before the pooler, and the softmax is averaged over the views.
    Where the reference draws a window within a segment at random, the middle one is taken.

    Args:
        video: Video, path, array or tensor (see `as_video`).
        checkpoint: a Hugging Face id, such as "facebook/vjepa2-vitl-fpc16-256-ssv2", or a folder.
        top: how many classes to give.
        reading: None for that of a released head of this name (`READINGS`), else that of a head
            trained with transformers.
    Raises:
        UserError: no head, weights are missing or do not fit their configuration, or the reading
            does not fit them.
        MemoryError: the tokens of a view cannot fit.
        ConnectionError: as `load_encoder`.
    """
    check_counts(top=top)
    video, name, folder = as_video(video), label(str(checkpoint)), find(str(checkpoint))
    model, reading = load_classifier(folder, name, reading)
    config, encoder = model.config, Encoder(model.vjepa2, name, *pixel_statistics(folder))
    side = config.crop_size
    chosen = segment_frames(len(video), config.frames_per_clip, reading.segments, reading.step)
    size, corners = square_views(video.height, video.width, side)
    _check_memory(name, model, reading)
    segments = [encoder.pixels(video[part].frames, size) for part in chosen]  # (frames, 3, H, W)
    bar = dict(desc=f"classifying with {name}", unit="segment", delay=2, leave=False)
    logits = []
    with tqdm(total=len(corners) * len(segments), **bar) as progress:
        for y, x in corners:
            tokens = []
            for pixels in segments:
                view = pixels[None, :, :, y : y + side, x : x + side]
                tokens.append(segment_tokens(model, view, reading.levels))
                progress.update()
            logits.append(head_logits(model, torch.cat(tokens, 1)))
    names = [config.id2label[i] for i in range(config.num_labels)]
    random = "The head is random: its biases are all zero, as before training."
    remark = "" if model.classifier.bias.any() else random
    return Classification.of(torch.cat(logits), names, top, video.indices[chosen], name, remark)


def load_classifier(
    folder: Path, name: str, reading: Reading | None = None, dtype: torch.dtype | None = None
) -> tuple[nn.Module, Reading]:
    """A `VJEPA2ForVideoClassification` whose pooler is set up by a reading, and the reading."""
    device = torch.device(best_device())
    model = load_model(folder, dtype or fast_dtype(device), head=True).to(device)
    if not hasattr(model, "pooler"):
        raise UserError(
            f"{name} has no classification head: take one that has, such as "
            "facebook/vjepa2-vitl-fpc16-256-ssv2, or train a probe on its features."
        )
    config = model.config
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise UserError(
            f"{name} must name the classes 0 to {config.num_labels - 1} in id2label of its "
            f"config.json, and names {', '.join(map(str, sorted(config.id2label)))}."
        )
    reading = READINGS.get(name.split("/")[-1], Reading()) if reading is None else reading
    _check_reading(name, config, reading)
    pooler_config = copy.deepcopy(config)
    pooler_config.num_attention_heads = reading.pooler_heads or config.num_attention_heads
    pooler_config.layer_norm_eps = reading.pooler_eps or config.layer_norm_eps
    with torch.device("meta"):
        pooler = type(model.pooler)(pooler_config)
    pooler.load_state_dict(model.pooler.state_dict(), assign=True)
    model.pooler = pooler.eval().requires_grad_(False)
    return model, reading


@torch.no_grad()
def segment_tokens(model: nn.Module, pixels: torch.Tensor, levels: tuple = ()) -> torch.Tensor:
    """Tokens (batch, levels × tokens, channels) of normalised pixels (batch, frames, 3, H, W)."""
    encoder, pixels = model.vjepa2, pixels.to(model.device)
    norm = encoder.encoder.layernorm
    parts = [norm(x) for x in encode_layers(encoder, pixels, levels)] if levels else []
    return torch.cat(parts, 1) if levels else encode_tokens(encoder, pixels)


@torch.no_grad()
def head_logits(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Logits, float32 (batch, classes), of all tokens of a view (batch, tokens, channels)."""
    return model.classifier(model.pooler(tokens)).float().cpu()


def _check_memory(name, model, reading):
    config, levels = model.config, max(1, len(reading.levels))
    steps = config.frames_per_clip // config.tubelet_size * reading.segments
    tokens = steps * (config.crop_size // config.patch_size) ** 2 * levels
    needed = POOLER_COPIES * tokens * config.hidden_size * model.dtype.itemsize
    what = f"The {tokens:,} tokens of a view that {name} pools jointly"
    remedy = "take a head with fewer segments or on a smaller encoder"
    check_fits(needed, model.device, what, lambda share: remedy)


def segment_frames(total: int, frames: int, segments: int, step: int) -> np.ndarray:
    """Which frames of a clip of `total` each segment takes: int array (segments, frames).

    After `loadvideo_decord` of the reference (src/datasets/video_dataset.py): segments divide a
    clip that is long enough; else they overlap, and a clip too short for one repeats its end,
    except for the very last frame.
    """
    length, share = frames * step, total // segments
    if share > length:
        within = np.linspace(0, length, frames).clip(max=length - 1)
        first = (share - length) // 2 + share * np.arange(segments)
    else:
        last = min(length, total) - 1
        apart = np.linspace(0, last, last // step)
        within = np.append(apart, np.full(frames - len(apart), last)).clip(0, max(last - 1, 0))
        first = np.arange(segments) * (max(total - length, 0) // max(segments - 1, 1))
    return first[:, None] + within.astype(int)


def square_views(height: int, width: int, side: int) -> tuple[tuple, list[tuple]]:
    """Size (height, width) whose short side is `side`, and corners (y, x) of its square views."""
    long = int(side * max(height, width) / min(height, width))
    starts = sorted({i * ((long - side) // (VIEWS - 1)) for i in range(VIEWS)})  # a square has one
    if height > width:
        return (long, side), [(y, 0) for y in starts]
    return (side, long), [(0, x) for x in starts]


def _check_reading(name, config, reading):
    if not isinstance(reading, Reading):
        raise UserError(f"reading must be a Reading, not {reading!r}.")
    heads, eps, levels = reading.pooler_heads, reading.pooler_eps, reading.levels
    depth, width = config.num_hidden_layers, config.hidden_size
    fits = is_whole(reading.segments, 1) and is_whole(reading.step, 1)
    fits &= heads is None or is_whole(heads, 1) and width % heads == 0
    fits &= (eps is None or eps > 0) and isinstance(levels, (tuple, list))
    if not fits or len(levels) != len({*levels} & {*range(1, depth + 1)}):
        raise UserError(
            f"{reading} does not fit {name}: segments and step must be whole numbers of at least "
            f"1, pooler_heads a divisor of the {width} channels, pooler_eps above 0, and levels "
            f"different numbers from 1 to {depth}."
        )
