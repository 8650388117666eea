"""Classifiers of your own classes on frozen features, which are computed once.

"attentive" is transformers' pooler, in which a learnt query attends to all tokens, and a linear
layer: for hundreds of clips, as in the first V-JEPA (Bardes et al. 2024). "linear", the cheap first
look, is scikit-learn's logistic regression on the means over each step, standardised.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from tqdm.auto import tqdm
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

from vjepa_utils.actions.heads import Classification
from vjepa_utils.checks import UserError
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.files import read_safetensors, replacing
from vjepa_utils.video import Clip, Context, File, Size, as_video

CLIP_FRAMES, PLACES = 8, 8  # of a clip, evenly spaced; rows and columns it is averaged to, at most
EPOCHS, BATCH, RATE, WEIGHT_DECAY = 30, 32, 1e-3, 3.0  # of the attentive probe
SEEN = 0.25  # share of the places shown in each training step; with all of them it soon overfits


class AttentivePooler(VJEPA2AttentivePooler):
    """Over all tokens, standardised: (n, steps, places, channels) to (n, channels)."""

    def __init__(self, channels):
        heads = channels // 64 if channels % 64 == 0 else 1
        sizes = dict(hidden_size=channels, num_attention_heads=heads, num_pooler_layers=0)
        super().__init__(VJEPA2Config(**sizes, attn_implementation="sdpa"))
        nn.init.trunc_normal_(self.query_tokens, std=0.02)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, x):
        return super().forward(((x - self.mean) / self.deviation).flatten(1, 2))


@dataclass
class Probe:
    """A classifier of the features of a frozen encoder; made by `train_probe`.

    kind: "attentive" or "linear".
    classes: their names.
    shape: (steps, rows, columns, channels) of a clip's features.
    encoder, fingerprint: name of the checkpoint, and of its weights ("": not known).
    size, context: as for `Encoder.encode`.
    """

    kind: str
    classes: list
    shape: tuple
    encoder: str
    fingerprint: str
    size: int | tuple | None
    context: str | int | None

    def __post_init__(self):
        steps, _, _, channels = self.shape
        linear = self.kind == "linear"
        pooler = nn.Flatten() if linear else AttentivePooler(channels)
        width = steps * channels if linear else channels
        self.module = nn.Sequential(pooler, nn.Linear(width, len(self.classes))).eval()

    @torch.no_grad()
    def logits(self, features: list[Features]) -> torch.Tensor:
        """float32 (clips, classes); UserError if the features are another encoder's or shape."""
        x = _stack(features, self.kind, self.encoder, self.shape)
        return torch.cat([self.module(part) for part in x.split(BATCH)])

    def predict(self, features: list[Features]) -> list[str]:
        """The likeliest class of each clip: a list of names."""
        return [self.classes[i] for i in self.logits(features).argmax(1)]

    def classify(self, video: Clip, encoder: Encoder, top: int = 5) -> Classification:
        """The likeliest classes of a clip; UserError unless `encoder` is that of the training."""
        if self.fingerprint not in ("", encoder.fingerprint):
            raise UserError(
                f"The probe was trained on other weights than those of {encoder.name}: load that "
                "encoder, or train it anew."
            )
        features = clip_features(video, encoder, self.size, self.context)
        frames, name = np.unique(features.frames)[None], f"{self.kind} probe on {self.encoder}"
        return Classification.of(self.logits([features]), self.classes, top, frames, name)

    def save(self, path: File) -> None:
        """Write a safetensors file; nothing is left behind when that fails."""
        described = {name: getattr(self, name) for name in self.__dataclass_fields__}
        with replacing(path) as temporary:
            save_file(self.module.state_dict(), temporary, {"probe": json.dumps(described)})

    @classmethod
    def load(cls, path: File) -> Probe:
        """Read what `save` wrote; ValueError for any other file."""
        weights, described = read_safetensors(path, "probe")
        probe = cls(**described | {"shape": tuple(described["shape"])})
        probe.module.load_state_dict(weights)
        return probe


def train_probe(
    features: list[Features],
    labels: list[str],
    kind: str = "attentive",
    encoder: Encoder | None = None,
    size: Size = None,
    context: Context = None,
    seed: int = 0,
) -> Probe:
    """Train a probe on the features of clips.

    Args:
        features: of one encoder and shape, one for each clip, such as `clip_features` gives.
        labels: the name of the class of each clip.
        kind: "attentive" or "linear".
        encoder, size, context: what made the features. The probe encodes other clips the same way,
            and refuses an encoder of other weights.
        seed: of the attentive probe's weights and batches.
    Raises:
        UserError: features and labels do not fit together, or there is only one class.
    """
    classes = sorted(set(labels))
    if len(features) != len(labels) or len(classes) < 2:
        raise UserError(
            f"labels must name the class of each of the {len(features)} clips, at least two "
            f"classes: there are {len(labels)}, of the classes {classes}."
        )
    if kind not in ("attentive", "linear"):
        raise UserError(f'kind must be "attentive" or "linear", not {kind!r}.')
    name, shape = features[0].encoder, tuple(features[0].values.shape)
    x = _stack(features, kind, encoder.name if encoder else name, shape)
    y = torch.tensor([classes.index(each) for each in labels])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fingerprint = encoder.fingerprint if encoder else ""
        probe = Probe(kind, classes, shape, name, fingerprint, size, context)
        fit = _fit_attentive if kind == "attentive" else _fit_linear
        fit(probe.module, x, y)
    return probe


def _fit_linear(module, x, y):
    regression = LogisticRegression(C=0.1, max_iter=2000)
    fitted = make_pipeline(StandardScaler(), regression).fit(x.flatten(1).numpy(), y.numpy())
    weight, bias = map(torch.from_numpy, unfolded(fitted))
    module[1].load_state_dict({"weight": weight, "bias": bias})


def unfolded(pipeline: Pipeline) -> tuple[np.ndarray, np.ndarray]:
    """A scaler and a linear model as one map: weights (outputs, channels) and biases (outputs,)."""
    scaler, model = pipeline
    weights = np.atleast_2d(model.coef_) / scaler.scale_
    biases = np.atleast_1d(model.intercept_) - weights @ scaler.mean_
    if len(getattr(model, "classes_", ())) == 2:  # scikit-learn has only the second's
        return np.concatenate([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    return weights, biases


def _fit_attentive(module, x, y):
    module[0].mean.copy_(x.mean((0, 1, 2)))
    module[0].deviation.copy_(x.std((0, 1, 2)).clamp_min(1e-6))
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=WEIGHT_DECAY)
    steps, places = EPOCHS * -(-len(x) // BATCH), x.shape[2]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    with tqdm(total=steps, desc="training the probe", delay=2, leave=False) as progress:
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(x)).split(BATCH):
                seen = x[chosen][:, :, torch.randperm(places)[: max(1, int(SEEN * places))]]
                loss = F.cross_entropy(module(seen), y[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                progress.update()


def _stack(features, kind, encoder, shape):
    """What a probe reads, checked: float32 (clips, steps, places, channels); for the linear one the
    means of the steps, (clips, steps, channels).
    """
    for each in features:
        if (each.encoder, tuple(each.values.shape)) != (encoder, shape):
            raise UserError(
                f"Features of all clips must be of {encoder} and of one shape, {shape}, not of "
                f"{each.encoder} and {tuple(each.values.shape)}: encode all with one size=(h, w)."
            )
    x = torch.stack([each.values.flatten(1, 2) for each in features])
    return x.mean(2) if kind == "linear" else x


def clip_features(
    video: Clip, encoder: Encoder, size: Size = None, context: Context = None
) -> Features:
    """Features of a clip for a probe: of 8 of its frames, evenly spaced, averaged in each step to
    at most 8×8 places. size, context: as for `Encoder.encode`.
    """
    video = as_video(video)
    clip = video[np.linspace(0, len(video) - 1, CLIP_FRAMES).round().astype(int)]
    _ = clip.frames  # all eight, or UserError where the file is damaged
    features = encoder.encode(clip, context, size)
    places = tuple(min(PLACES, side) for side in features.grid[1:])
    # (steps, rows, columns, channels)
    pooled = F.adaptive_avg_pool2d(features.values.permute(0, 3, 1, 2), places).permute(0, 2, 3, 1)
    return replace(features, values=pooled.contiguous(), cuts=())  # far apart looks like a cut


def accuracy(truth: list[str], predicted: list[str]) -> tuple[float, float, float]:
    """Share of class names that are right, and its 95 % interval by Wilson (1927), from 0 to 1."""
    right = sum(a == b for a, b in zip(truth, predicted, strict=True))
    return right / len(truth), *binomtest(right, len(truth)).proportion_ci(method="wilson")
