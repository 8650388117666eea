"""In which layer can a quantity be read? Ridge probes, beside what must fail.

Folds never split a recording, nor clips that show the same frames; the strength of the ridge is
chosen within the training folds (scikit-learn).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from os import PathLike

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError
from vjepa_utils.drawing import new_figure, with_heading
from vjepa_utils.encoder import Encoder
from vjepa_utils.probing.classes import unfolded
from vjepa_utils.probing.controls import PatchColours, random_weights
from vjepa_utils.probing.recordings import of_other_recordings, recordings_of
from vjepa_utils.probing.targets import Target
from vjepa_utils.video import Context, Size

FOLDS, STRENGTHS = 5, np.logspace(0, 7, 8)
RESAMPLED = 200  # times, recordings with replacement, for an interval


@dataclass
class LayerProbes:
    """Probes of one quantity in the layers of an encoder; `probe` makes it.

    encoder: its name.
    kind: "number", "angle" or "class".
    scores: {layer: (R², or the share of right classes, on clips held out, and the ends of its 95 %
        interval)}; the layer None is the final norm.
    controls: {"random weights", "raw pixels", "target shuffled": the same}.
    models: {layer: scikit-learn pipeline}, fitted on all targets.
    counts: of targets and of recordings.
    """

    encoder: str
    kind: str
    scores: dict
    controls: dict
    models: dict
    counts: tuple

    def predict(self, tokens: torch.Tensor, layer: int | str | None = None) -> np.ndarray:
        """What a layer's probe reads from tokens, (n, channels): numbers, radians or classes (n,).
        The predictor's answers are read as the final norm's: `edit(…).read(probes.predict)`.
        """
        answers = self.models[layer].predict(_standard(tokens, layer).numpy())
        return np.arctan2(*answers.T) if self.kind == "angle" else answers

    def direction(
        self, layer: int | str | None = None, towards: float | str | None = None
    ) -> torch.Tensor:
        """The unit vector, float32 (channels,), along which a layer's answer grows fastest, for
        `recovery.edit` to push along. towards: the angle or the class to push to.
        """
        weights, _ = unfolded(self.models[layer])
        if self.kind == "angle":
            weights = np.array([[np.sin(towards), np.cos(towards)]]) @ weights
        elif self.kind == "class":
            weights = weights[self.models[layer].classes_ == towards]
        return F.normalize(torch.from_numpy(weights[0]).float(), dim=0)

    @property
    def caption(self) -> str:
        """What was measured, on how much."""
        measure = "accuracy" if self.kind == "class" else "R²"
        targets, recordings = self.counts
        return f"{measure} of {targets} targets in {recordings} recordings, {FOLDS} folds, 95 %"

    def table(self) -> str:
        """Scores and controls by layer as text."""
        columns = {"": self.scores, **self.controls}
        lines = [f"{'block':8}" + "".join(f"{name:>24}" for name in columns)]
        for layer in self.scores:
            scores = (scores[layer] for scores in columns.values())
            cells = [f"{value:.2f} ({low:.2f} to {high:.2f})" for value, low, high in scores]
            lines.append(f"{layer or 'norm':<8}" + "".join(f"{cell:>24}" for cell in cells))
        return "\n".join([*lines, f"{self.encoder}, {self.kind}: {self.caption}."])

    def figure(self) -> Figure:
        """Scores and controls by layer, as curves with their intervals."""
        figure = new_figure(3)
        axis, names = figure.subplots(), [str(layer or "norm") for layer in self.scores]
        curves = {self.encoder: self.scores, **self.controls}
        colours = "black", "#0072b2", "#d55e00", "#999999"
        for (name, scores), colour in zip(curves.items(), colours, strict=True):
            value, low, high = np.transpose([*scores.values()])
            axis.plot(names, value, ".-", label=name, color=colour)
            axis.fill_between(names, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_xlabel("block")
        axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return with_heading(figure, f"{self.encoder} · {self.kind} · {self.caption}")


def probe(
    targets: list[Target],
    encoder: Encoder,
    kind: str = "number",
    layers: list | str = "all",
    size: Size = None,
    context: Context = None,
    seed: int = 0,
) -> LayerProbes:
    """Probe layers for a quantity, beside random weights of the architecture, raw pixels (4×4
    colours of each patch), and the values of other recordings.

    Args:
        targets: values and where they belong (`Target`, `read_targets`).
        encoder: any; its final norm's tokens are layer-normalised, as the predictor's targets are.
        kind: "number", "angle" (radians; its sine and cosine are regressed) or "class".
        layers: as for `Encoder.encode`; "all": each block, and the final norm.
        size, context: as for `Encoder.encode`.
        seed: of the controls.
    Raises:
        UserError: a target lies outside its clip, all have one value, there are fewer recordings
            than folds, or no such layer.
    """
    if kind not in ("number", "angle", "class"):
        raise UserError(f'kind must be "number", "angle" or "class", not {kind!r}.')
    values = np.array([target.value for target in targets], str if kind == "class" else float)
    if len({*values}) < 2 or (kind != "class" and not np.isfinite(values).all()):
        raise UserError("The targets must be finite, and have at least two values.")
    if layers == "all":
        layers = [*range(1, encoder.depth + 1), None]
    colours = PatchColours(encoder, 2 if encoder.patch_size % 4 else 4)
    named = lambda clip: str(clip) if isinstance(clip, (str, PathLike)) else str(id(clip))
    names = [named(target.clip) for target in targets]
    clips = [*dict.fromkeys(names)]  # each once
    owner = np.array([clips.index(name) for name in names])
    tokens = partial(_tokens, targets, owner)
    x, means = tokens(encoder, layers, context, size)
    recordings = [targets[names.index(clip)].recording or clip for clip in clips]
    groups = recordings_of(recordings, means)[owner]
    if len({*groups}) < FOLDS:
        raise UserError(
            f"The recordings of the clips are {len({*groups})}, fewer than the {FOLDS} folds: add "
            "others."
        )
    noise, _ = tokens(random_weights(encoder, seed), layers, context, size)
    pixels, _ = tokens(colours, [None], context, size)
    y = np.stack([np.sin(values), np.cos(values)], 1) if kind == "angle" else values
    bar = dict(desc="probing", unit="layer", leave=False)
    scores = lambda x, y: {k: score(x[k], y, groups, kind) for k in tqdm(x, **bar)}
    controls = {
        "random weights": scores(noise, y),
        "raw pixels": dict.fromkeys(layers, score(pixels[None], y, groups, kind)),
        "target shuffled": scores(x, y[of_other_recordings(groups, seed)]),
    }
    models = {k: ridge(groups, kind).fit(x[k], y) for k in layers}
    counts = len(targets), len({*groups})
    return LayerProbes(encoder.name, kind, scores(x, y), controls, models, counts)


def ridge(groups: np.ndarray, kind: str = "number") -> BaseEstimator:
    """A ridge regression, or classifier, on standardised features, whose strength is the best on
    held-out groups (n,): without a signal that generalises to them, it predicts the average.
    """
    folds = [*GroupKFold(min(FOLDS, len({*groups}))).split(groups, groups=groups)]
    # not by R², which a fold of a single target has not
    number = RidgeCV(STRENGTHS, cv=folds, scoring="neg_mean_squared_error")
    model = RidgeClassifierCV(STRENGTHS, cv=folds) if kind == "class" else number
    return make_pipeline(StandardScaler(), model)


def score(x: np.ndarray, y: np.ndarray, groups: np.ndarray, kind: str = "number") -> tuple:
    """(R² or accuracy, low, high) of `ridge` on x (n, channels), where each fold of groups is
    predicted from the others; the interval is over groups, drawn with replacement.
    """
    predicted = np.empty_like(y)
    for seen, held in GroupKFold(FOLDS).split(x, groups=groups):
        predicted[held] = ridge(groups[seen], kind).fit(x[seen], y[seen]).predict(x[held])
    r2 = partial(r2_score, multioutput="variance_weighted")
    measure = accuracy_score if kind == "class" else r2
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = np.random.default_rng(0).integers(len(members), size=(RESAMPLED, len(members)))
    chosen = (np.concatenate([members[i] for i in each]) for each in drawn)
    ends = np.percentile([measure(y[i], predicted[i]) for i in chosen], [2.5, 97.5])
    return float(measure(y, predicted)), *map(float, ends)


def _tokens(targets, owner, encoder, layers, *options):
    """{layer: float32 (targets, channels)}, and [means of its steps (steps, channels)] by clip."""
    rows, means = {layer: [None] * len(targets) for layer in layers}, []
    for clip in tqdm(range(owner.max() + 1), desc=encoder.name, unit="clip", leave=False):
        positions = np.flatnonzero(owner == clip)
        features = encoder.encode(targets[positions[0]].clip, *options, layers=layers)
        means.append(features[layers[-1]].values.mean((1, 2)))
        for layer, position in itertools.product(layers, positions):
            try:
                rows[layer][position] = _mean_token(features[layer], targets[position])
            except UserError as error:
                raise UserError(f"{targets[position].origin}: {error}") from None
    return {layer: torch.stack(each).numpy() for layer, each in rows.items()}, means


def _mean_token(features, target):
    """The mean of the tokens that a target is about: (channels,)."""
    chosen = np.ones(len(features.frames), bool)
    if target.step is not None:
        chosen &= np.arange(len(chosen)) == target.step
    if target.frame is not None:
        chosen &= (features.frames == target.frame).any(1).numpy()
    if not chosen.any():
        raise UserError(
            f"The clip has {len(chosen)} steps, of frames {features.frames.min()} to "
            f"{features.frames.max()}, but no step {target.step} or frame {target.frame}."
        )
    values = features.values[chosen]
    if target.point is not None:
        row, column = features.token_at(target.point)
        values = values[:, row, column]
    return _standard(values.flatten(0, -2), features.layer).mean(0)


def _standard(tokens, layer):
    """Tokens of the final norm, layer-normalised as the predictor's targets are."""
    return F.layer_norm(tokens, tokens.shape[-1:]) if layer is None else tokens
