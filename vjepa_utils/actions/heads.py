"""Which action is it? The released classification heads on any clip, evaluated as their authors do.

Each is a V-JEPA 2 encoder, transformers' attentive pooler (three blocks of self-attention, then a
learnt query that looks at all tokens) and a linear layer (Assran et al. 2025). To train one on your
own classes, see `probes`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from vjepa_utils.checks import is_whole
from vjepa_utils.encoders.checkpoints import CHECKPOINTS, find, label, load_whole, pixel_statistics
from vjepa_utils.encoders.devices import best_device, fast_dtype
from vjepa_utils.encoders.encoder import Encoder
from vjepa_utils.encoders.vjepa2 import encode_tokens
from vjepa_utils.video import as_video

# Segments of the clip and the step between frames in each, as the reference's configs/inference has
# them.
SAMPLING = {
    "vjepa2-vitl-fpc16-256-ssv2": (2, 4),
    "vjepa2-vitg-fpc64-384-ssv2": (2, 2),
    "vjepa2-vitl-fpc32-256-diving48": (4, 2),
    "vjepa2-vitg-fpc32-384-diving48": (4, 2),
}
OTHER_SAMPLING, VIEWS = (2, 4), 3  # of heads that are not listed; square crops along the long side


@dataclass
class Classification:
    """What a head or a probe says of a clip.

    labels: the likeliest class names, best first.  probabilities: theirs, float array (top,): the
        mean of the passes' softmax.
    logits: float32 tensor (passes, classes), a pass for each view of each segment.  frames: int
        array (segments, frames), file
    numbers of the frames used.  name: of the head.  remark: why not to believe it, or "".
    """

    labels: list
    probabilities: np.ndarray
    logits: torch.Tensor
    frames: np.ndarray
    name: str
    remark: str = ""

    @classmethod
    def of(cls, logits, names, top, frames, name, remark=""):
        if not is_whole(top, 1):
            raise ValueError(f"top must be a whole number of at least 1, not {top!r}.")
        mean = logits.softmax(1).mean(0)
        best = mean.argsort(descending=True, stable=True)[:top]
        return cls([names[i] for i in best], mean[best].numpy(), logits, frames, name, remark)

    def table(self):
        """Labels and probabilities as text."""
        width = max(map(len, self.labels))
        lines = [
            f"{name:{width}}  {share:6.1%}"
            for name, share in zip(self.labels, self.probabilities, strict=True)
        ]
        parts, views = (
            " and ".join(f"{part[0]} to {part[-1]}" for part in self.frames),
            len(self.logits) // len(self.frames),
        )
        about = f"{self.name}, {self.logits.shape[1]} classes; frames {parts}" + (
            f", {views} views of each." if views > 1 else "."
        )
        return "\n".join([*lines, about, *filter(None, [self.remark])])


def classify(video, checkpoint, top=5):
    """The likeliest actions by a checkpoint with a classification head.

    Each segment of the clip gives some frames, of these three square views along the long side are
    classified, and the softmax is averaged over segments and views. Where the reference
    (facebookresearch/vjepa2, evals/video_classification_frozen) draws a window within a segment at
    random, the middle one is taken. Its Diving48 heads read four layers of the encoder; here, as in
    transformers, they read the last.

    Args:
        video: Video, path, array or tensor (see `as_video`).
        checkpoint: a Hugging Face id, such as "facebook/vjepa2-vitl-fpc16-256-ssv2", or a local
            folder.
        top: how many classes to tell.
    Returns:
        Classification.
    Raises:
        ValueError: no head, or weights are missing.  ConnectionError: as `load_encoder`.
    """
    video, name, folder = as_video(video), label(str(checkpoint)), find(str(checkpoint))
    device = torch.device(best_device())
    model = load_whole(folder, fast_dtype(device)).to(device)
    if not hasattr(model, "pooler"):
        heads = " or ".join(
            each for each in CHECKPOINTS if each.split("/")[1] in SAMPLING and "vitl" in each
        )
        raise ValueError(
            f"{name} has no classification head: take one that has, such as {heads}, or train a "
            "probe on its features."
        )
    config, encoder = model.config, Encoder(model.vjepa2, name, *pixel_statistics(folder))
    side = config.crop_size
    chosen = segment_frames(
        len(video), config.frames_per_clip, *SAMPLING.get(name.split("/")[-1], OTHER_SAMPLING)
    )
    size, corners = square_views(video.height, video.width, side)
    logits = []
    for part in tqdm(chosen, desc=f"classifying with {name}", unit="segment", delay=2, leave=False):
        pixels = encoder.pixels(video.at(part), size)  # (frames, 3, height, width)
        logits += [
            head_logits(model, pixels[None, :, :, y : y + side, x : x + side]) for y, x in corners
        ]
    names = [config.id2label[i] for i in range(config.num_labels)]
    return Classification.of(
        torch.cat(logits), names, top, video.indices[chosen], name, _remark(model, names)
    )


@torch.no_grad()
def head_logits(model, pixels):
    """Logits, float32 (batch, classes), of normalised pixels (batch, frames, 3, height, width),
    with true positions.

    model: a `VJEPA2ForVideoClassification` of `load_whole`.
    """
    return (
        model.classifier(model.pooler(encode_tokens(model.vjepa2, pixels.to(model.device))))
        .float()
        .cpu()
    )


def segment_frames(total, frames, segments, step):
    """Which frames of a clip of `total` each segment takes: int array (segments, frames).

    After `loadvideo_decord` of the reference (src/datasets/video_dataset.py): segments share the
    clip out where they are long enough; else they overlap, and a clip that is too short for one
    repeats its end, the very last frame apart.
    """
    length, share = frames * step, total // segments
    if share > length:
        within = np.linspace(0, length, frames).clip(max=length - 1)
        first = (share - length) // 2 + share * np.arange(segments)
    else:
        last = min(length, total) - 1
        within = np.append(
            np.linspace(0, last, last // step), np.full(frames - last // step, last)
        ).clip(0, max(last - 1, 0))
        first = np.arange(segments) * (max(total - length, 0) // max(segments - 1, 1))
    return first[:, None] + within.astype(int)


def square_views(height, width, side):
    """Size (height, width) whose short side is `side`, and the corners (y, x) of the square views
    along the long one.
    """
    long = int(side * max(height, width) / min(height, width))
    # a square has but one view
    starts = sorted({i * ((long - side) // (VIEWS - 1)) for i in range(VIEWS)})
    return (
        ((long, side), [(y, 0) for y in starts])
        if height > width
        else ((side, long), [(0, x) for x in starts])
    )


def _remark(model, names):
    """What tells that a head was never trained."""
    signs = ["the head is random: its biases are all zero, as before training"] * (
        not model.classifier.bias.any()
    )
    signs += ["the checkpoint names no classes"] * (
        names == [f"LABEL_{i}" for i in range(len(names))]
    )
    text = "; ".join(signs)
    return text and f"{text[0].upper()}{text[1:]}."
