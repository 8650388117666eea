"""Classifiers of your own classes on frozen features, which are computed once.

The attentive probe is transformers' pooler, in which a learnt query attends to all tokens, and a
linear layer. It is made for hundreds of clips, not hundreds of thousands, so it has none of the
blocks of self-attention that the released heads have before it: the pooler of the first V-JEPA
(Bardes et al. 2024).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from tqdm.auto import tqdm
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

from vjepa_utils.actions.heads import Classification
from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.files import read_safetensors, replacing, user_cache
from vjepa_utils.video import as_video, file_identity, read_video

if TYPE_CHECKING:
    from vjepa_utils.encoder import Encoder
    from vjepa_utils.video import Clip, Context, File, Size

CLIP_FRAMES = 8  # of a clip, evenly spaced
PLACES = 8  # rows and columns that features are averaged to, at most
EPOCHS, BATCH, RATE, WEIGHT_DECAY = 30, 32, 1e-3, 3.0  # of the attentive probe
SEEN = 0.25  # share of the places shown in each training step; with all of them it soon overfits
HELD_OUT = 0.3  # share of each class


class _MeanPooler(nn.Module):
    """The mean over the places of each step, concatenated: (n, steps, places, channels) to (n,
    steps × channels).
    """

    def forward(self, x):
        return x.mean(2).flatten(1)


class _AttentivePooler(VJEPA2AttentivePooler):
    """transformers' pooler over all tokens of all steps, standardised: (n, steps, places, channels)
    to (n, channels).
    """

    def __init__(self, channels):
        heads = channels // 64 if channels % 64 == 0 else 1
        config = VJEPA2Config(
            hidden_size=channels,
            num_attention_heads=heads,
            num_pooler_layers=0,
            attn_implementation="sdpa",
        )
        super().__init__(config)
        nn.init.trunc_normal_(self.query_tokens, std=config.initializer_range)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, x):
        return super().forward(((x - self.mean) / self.deviation).flatten(1, 2))


@dataclass
class Probe:
    """A classifier of the features of a frozen encoder; made by `train_probe`.

    kind: "attentive" or "linear".  classes: their names.  shape: (steps, rows, columns, channels)
        of a clip's features.
    encoder, fingerprint: name of the checkpoint, and of its weights ("": not known).  size,
        context: as for `Encoder.encode`.
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
        if self.kind == "linear":
            pooler, width = _MeanPooler(), steps * channels
        else:
            pooler, width = _AttentivePooler(channels), channels
        self.module = nn.Sequential(pooler, nn.Linear(width, len(self.classes))).eval()

    @torch.no_grad()
    def logits(self, features: list[Features]) -> torch.Tensor:
        """float32 (clips, classes) for a list of Features; ValueError if they are another encoder's
        or of another shape.
        """
        return torch.cat(
            [self.module(part) for part in _stack(features, self.encoder, self.shape).split(BATCH)]
        )

    def predict(self, features: list[Features]) -> list[str]:
        """The likeliest class of each clip: a list of names."""
        return [self.classes[i] for i in self.logits(features).argmax(1)]

    def classify(self, video: Clip, encoder: Encoder, top: int = 5) -> Classification:
        """The likeliest classes of a clip, a Classification; ValueError unless `encoder` is the one
        that the probe was trained on.
        """
        if self.fingerprint not in ("", encoder.fingerprint):
            raise UserError(
                f"The probe was trained on other weights than those of {encoder.name}: load that "
                "encoder, or train it anew."
            )
        features = clip_features(video, encoder, self.size, self.context)
        frames = np.unique(features.frames)[None]
        return Classification.of(
            self.logits([features]),
            self.classes,
            top,
            frames,
            f"{self.kind} probe on {self.encoder}",
        )

    def save(self, path: File) -> None:
        """Write a safetensors file; nothing is left behind when that fails."""
        about = {name: getattr(self, name) for name in self.__dataclass_fields__}
        with replacing(path) as temporary:
            save_file(self.module.state_dict(), temporary, {"probe": json.dumps(about)})

    @classmethod
    def load(cls, path: File) -> Probe:
        """Read what `save` wrote; ValueError for any other file."""
        weights, about = read_safetensors(path, "probe")
        probe = cls(
            **{
                name: tuple(v) if isinstance(v, list) and name != "classes" else v
                for name, v in about.items()
            }
        )
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
        features: a list of Features of one encoder and shape, one for each clip, such as
            `clip_features` gives.
        labels: the name of the class of each clip.
        kind: "attentive" (transformers' attentive pooler and a linear layer, AdamW), or "linear",
            the cheap first look: scikit-learn's logistic regression on the means over each step,
            standardised.
        encoder, size, context: what made the features, an `Encoder` and arguments of its `encode`.
            The probe encodes other clips the same way, and refuses an encoder of other weights.
    Returns:
        Probe.
    Raises:
        ValueError: features and labels do not fit together, or there is only one class.
    """
    labels, features = list(labels), list(features)
    classes = sorted(set(labels))
    if len(features) != len(labels):
        raise UserError(
            f"labels must name the class of each clip: there are {len(labels)} for "
            f"{len(features)} clips."
        )
    if len(classes) < 2:
        raise UserError(
            "A probe needs at least two classes to tell apart, not "
            f"{len(classes)}{': ' + classes[0] if classes else ''}."
        )
    if kind not in ("attentive", "linear"):
        raise UserError(f'kind must be "attentive" or "linear", not {kind!r}.')
    name, shape = features[0].encoder, tuple(features[0].values.shape)
    # (clips, steps, places, channels)
    x = _stack(features, encoder.name if encoder else name, shape)
    y = torch.tensor([classes.index(each) for each in labels])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        probe = Probe(
            kind, classes, shape, name, encoder.fingerprint if encoder else "", size, context
        )
        (_fit_attentive if kind == "attentive" else _fit_linear)(probe.module, x, y)
    return probe


def _fit_linear(module, x, y):
    means = module[0](x).numpy()
    scaler = StandardScaler().fit(means)
    regression = LogisticRegression(C=0.1, max_iter=2000).fit(scaler.transform(means), y.numpy())
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if len(weight) == 1:  # of two classes scikit-learn fits only the second
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    module[1].load_state_dict(
        {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    )


def _fit_attentive(module, x, y):
    module[0].mean.copy_(x.mean((0, 1, 2)))
    module[0].deviation.copy_(x.std((0, 1, 2)).clamp_min(1e-6))
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=WEIGHT_DECAY)
    steps, places = EPOCHS * -(-len(x) // BATCH), x.shape[2]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.1
    )
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


def _stack(features, encoder, shape):
    """float32 (clips, steps, places, channels) from a list of Features, checked."""
    for each in features:
        if each.encoder != encoder:
            raise UserError(f"The features must be of {encoder}, not of {each.encoder}.")
        if tuple(each.values.shape) != shape:
            found = f"{shape} and {tuple(each.values.shape)}"
            raise UserError(
                f"Features of all clips must have one shape, not {found}: encode all with one "
                "size=(height, width)."
            )
    return torch.stack([each.values.flatten(1, 2) for each in features])


def clip_features(
    video: Clip, encoder: Encoder, size: Size = None, context: Context = None
) -> Features:
    """Features of a clip for a probe: of 8 frames evenly spaced over it, averaged in each step to
    at most 8×8 places.

    size, context: as for `Encoder.encode`. `frames` are those of the file.
    """
    video = as_video(video)
    chosen = np.linspace(0, len(video) - 1, CLIP_FRAMES).round().astype(int)
    features = encoder.encode(video[chosen], context, size)
    places = tuple(min(PLACES, side) for side in features.grid[1:])
    # (steps, rows, columns, channels)
    pooled = F.adaptive_avg_pool2d(features.values.permute(0, 3, 1, 2), places).permute(0, 2, 3, 1)
    return replace(
        features,
        values=pooled.contiguous(),
        cuts=(),  # frames far apart look like cuts
    )


def folder_features(
    folder: File, encoder: Encoder, size: Size = None, context: Context = None, **taken
) -> tuple[list[Features], list[str], dict[str, str]]:
    """Features of all clips in a folder that has a sub-folder for each class; kept in the user's
    cache.

    Args:
        folder: its sub-folders are named as the classes.  taken: start, every, count, as for
            `read_video`.
    Returns:
        features, labels, and {file: why it was skipped} of those that cannot be read.
    Raises:
        ValueError: fewer than two classes, or a class with fewer than two clips that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    places = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    if len(places) < 2:
        raise UserError(
            f"{folder} needs a sub-folder of clips for each of at least two classes, and has "
            f"{len(places)}."
        )
    cache = user_cache() / "features"
    cache.mkdir(exist_ok=True)
    # wrong arguments fail here, not as unreadable clips
    encoder.grid(np.zeros((CLIP_FRAMES, 64, 64, 3), np.uint8), size, context)
    how = (
        encoder.name,
        encoder.fingerprint,
        str(encoder.dtype),
        size,
        context,
        taken,
        CLIP_FRAMES,
        PLACES,
    )
    files = [file for place in places for file in sorted(place.iterdir()) if file.name[0] != "."]
    features, labels, skipped = [], [], {}
    for file in tqdm(files, desc=f"clips of {folder.name}", leave=False):
        key = repr((file_identity(file), how))
        kept = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
        try:
            if not kept.exists():
                clip_features(read_video(file, **taken), encoder, size, context).save(kept)
        except (ValueError, OSError) as error:
            skipped[str(file)] = str(error)
            continue
        features.append(Features.load(kept))
        labels.append(file.parent.name)
    for place in places:
        count = labels.count(place.name)
        if count < 2:
            lost = (
                f" ({len(skipped)} files were skipped; {next(iter(skipped.values())).rstrip('.')})"
                if skipped
                else ""
            )
            raise UserError(
                f"The class {place.name!r} has {count} clips that can be read, and at least 2 "
                f"are needed{lost}."
            )
    return features, labels, skipped


def hold_out(labels: list[str], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions of clips to train on and to hold out, 30 % of each class but at least one: two int
    arrays, seeded.
    """
    labels, order = np.asarray(labels), np.random.default_rng(seed).permutation(len(labels))
    held = np.concatenate(
        [
            own[: max(1, round(HELD_OUT * len(own)))]
            for own in (order[labels[order] == n] for n in np.unique(labels))
        ]
    )
    return np.setdiff1d(order, held), np.sort(held)


def accuracy(truth: list[str], predicted: list[str]) -> tuple[float, float, float]:
    """Share of class names that are right, and the ends of its 95 % interval by Wilson's score
    (1927), each from 0 to 1.
    """
    right = sum(a == b for a, b in zip(truth, predicted, strict=True))
    return right / len(truth), *binomtest(right, len(truth)).proportion_ci(method="wilson")
