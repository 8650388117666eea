"""Classifiers of your own classes on frozen features, which are computed once.

The attentive probe is transformers' pooler, in which a learnt query attends to all tokens, and a
linear layer. It is made for hundreds of clips, not hundreds of thousands, so it has none of the
blocks of self-attention that the released heads have before it: the pooler of the first V-JEPA
(Bardes et al. 2024).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn
from tqdm.auto import tqdm

from vjepa_utils.actions.heads import Classification
from vjepa_utils.checks import UserError
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.files import read_safetensors, replacing
from vjepa_utils.probing.labelled import labelled_clips
from vjepa_utils.probing.networks import (
    BATCH,
    AttentivePooler,
    MeanPooler,
    fit_attentive,
    fit_linear,
)
from vjepa_utils.video import Clip, Context, File, Size, as_video, read_video

CLIP_FRAMES = 8  # of a clip, evenly spaced
PLACES = 8  # rows and columns that features are averaged to, at most
FOLDS = 3  # one of them is held out
# Of the distance of steps from their mean: nearer ones show the same frames. Four clips compressed
# again are 0.01 to 0.02 away, neighbouring steps of a clip 0.16 or more.
SAME = 0.05


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
        if self.kind == "linear":
            pooler, width = MeanPooler(), steps * channels
        else:
            pooler, width = AttentivePooler(channels), channels
        self.module = nn.Sequential(pooler, nn.Linear(width, len(self.classes))).eval()

    @torch.no_grad()
    def logits(self, features: list[Features]) -> torch.Tensor:
        """float32 (clips, classes); UserError if the features are another encoder's or of another
        shape.
        """
        x = _stack(features, self.encoder, self.shape)
        return torch.cat([self.module(part) for part in x.split(BATCH)])

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
        for name in ("shape", "size"):
            if isinstance(described[name], list):
                described[name] = tuple(described[name])
        probe = cls(**described)
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
        seed: of the attentive probe's weights and batches.
    Raises:
        UserError: features and labels do not fit together, or there is only one class.
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
        fingerprint = encoder.fingerprint if encoder else ""
        probe = Probe(kind, classes, shape, name, fingerprint, size, context)
        fit = fit_attentive if kind == "attentive" else fit_linear
        fit(probe.module, x, y)
    return probe


def _stack(features, encoder, shape):
    """float32 (clips, steps, places, channels) from a list of Features, checked."""
    for each in features:
        if each.encoder != encoder:
            raise UserError(f"The features must be of {encoder}, not of {each.encoder}.")
        if tuple(each.values.shape) != shape:
            raise UserError(
                f"Features of all clips must have one shape, not {shape} and "
                f"{tuple(each.values.shape)}: encode all with one size=(height, width)."
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
    clip = video[chosen]
    _ = clip.frames  # all eight, or UserError where the file is damaged
    features = encoder.encode(clip, context, size)
    places = tuple(min(PLACES, side) for side in features.grid[1:])
    # (steps, rows, columns, channels)
    pooled = F.adaptive_avg_pool2d(features.values.permute(0, 3, 1, 2), places).permute(0, 2, 3, 1)
    return replace(features, values=pooled.contiguous(), cuts=())  # far apart looks like a cut


def folder_features(
    source: File, encoder: Encoder, size: Size = None, context: Context = None, **taken
) -> tuple[list[Features], list[str], dict[str, str]]:
    """Features of clips whose classes are known.

    Args:
        source: as for `labelled_clips`.
        encoder, size, context: as for `clip_features`.
        taken: start, every, fps, count, as for `read_video`.
    Returns:
        features, labels, and {file: why it was skipped} of those that cannot be read.
    Raises:
        UserError: fewer than two classes, or a class with fewer than two clips that can be read.
    """
    clips, _ = labelled_clips(source)
    # wrong arguments fail here, not as unreadable clips
    encoder.grid(np.zeros((CLIP_FRAMES, 64, 64, 3), np.uint8), size, context)
    features, labels, skipped = [], [], {}
    for clip in tqdm(clips, desc=f"clips of {Path(source).name}", leave=False):
        try:
            video = read_video(clip.file, **taken)
            features.append(clip_features(video, encoder, size, context))
            labels.append(clip.label)
        except (UserError, OSError) as error:
            skipped[str(clip.file)] = str(error)
    for name in dict.fromkeys(clip.label for clip in clips):
        if labels.count(name) < 2:
            reason = f" ({len(skipped)} files were skipped; {min(skipped.values(), default='')})"
            raise UserError(
                f"The class {name!r} has {labels.count(name)} clips that can be read, and at least "
                f"2 are needed{reason if skipped else ''}."
            )
    return features, labels, skipped


def hold_out(
    labels: list[str], seed: int = 0, recordings: list[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of clips to train on and to hold out, about a third, of every class: two int
    arrays, seeded.

    Args:
        labels: the class of each clip.
        recordings: what each was cut from: clips of one recording stay together. None: a third of
            the list of each class is held out in one piece, as neighbours in a list of files are
            often of one recording.
    Raises:
        UserError: there is a class of a single recording.
    """
    labels = np.asarray(labels)
    if recordings is None:
        ranks = {name: iter(range(len(labels))) for name in labels}
        counts = {name: np.count_nonzero(labels == name) for name in ranks}
        recordings = [f"{name} {FOLDS * next(ranks[name]) // counts[name]}" for name in labels]
    pairs = np.unique([labels, recordings], axis=1)
    names, counts = np.unique(pairs[0], return_counts=True)
    if counts.min() > 1:
        folds = StratifiedGroupKFold(min(FOLDS, counts.min()), shuffle=True, random_state=seed)
        splits = [
            (seen, held)
            for seen, held in folds.split(labels, labels, recordings)
            if len({*labels[seen]}) == len({*labels[held]}) == len(names)
        ]
        if splits:
            return splits[-1]
    raise UserError(
        f"Clips of the class {str(names[counts.argmin()])!r} cannot be both trained on and held "
        f"out, as they are of {counts.min()} recordings: add clips of others."
    )


def shown_in_training(features: list[Features], seen: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Which of the clips held out show what a clip to train on shows, up to its compression:
    positions, int (n,).
    """
    steps = [each.values.mean((1, 2)).double() for each in features]  # (steps, channels)
    training = torch.cat([steps[i] for i in seen])
    near = SAME * (training - training.mean(0)).square().sum(1).mean().sqrt()
    return np.array([i for i in held if torch.cdist(steps[i], training).min() <= near], int)


def accuracy(truth: list[str], predicted: list[str]) -> tuple[float, float, float]:
    """Share of class names that are right, and the ends of its 95 % interval by Wilson's score
    (1927), each from 0 to 1.
    """
    right = sum(a == b for a, b in zip(truth, predicted, strict=True))
    return right / len(truth), *binomtest(right, len(truth)).proportion_ci(method="wilson")
