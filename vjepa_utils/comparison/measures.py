"""Several encoders on one clip: one grid, similar tokens, and numbers of a representation, such as
its rank, what its variance is about, and how similar two are on the same tokens.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.stats import entropy, median_abs_deviation
from sklearn.neighbors import NearestNeighbors

from vjepa_utils.checks import UserError
from vjepa_utils.drawing import evenly, new_figure, with_heading
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.video import Clip, Size, as_video

OUTLIER = 6  # robust standard deviations above the median norm
NEIGHBOURS, TOKENS = 10, 2048  # of each token; compared, evenly taken
CURVES = {
    "effective rank": "effective rank",
    "anisotropy": "anisotropy",
    "place": "variance by place",
    "step": "variance by step",
    "CKA": "CKA with the last",
}


def on_one_grid(
    encoders: list[Encoder], video: Clip, size: Size = None, context: str = "pair"
) -> dict[str, Features]:
    """Features of a clip from every encoder, all with the same steps, rows and columns.

    Args:
        encoders: with different names.
        video: as for `encode`.
        size: of the picture for the first encoder, as for `Encoder.encode`; each of the others gets
            the size that makes as many rows and columns of its own patches.
        context: "pair" (an image encoder averages the features of the two frames) or "frame".
    Returns:
        {name: Features}, in the order of the encoders.
    """
    names = [encoder.name for encoder in encoders]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is named twice: each encoder is compared once.")
    video = as_video(video)
    _, rows, columns = encoders[0].grid(video, size, context)
    sizes = {each: (rows * each.patch_size, columns * each.patch_size) for each in encoders}
    return {each.name: each.encode(video, context, size) for each, size in sizes.items()}


def similarity(features: Features, point: tuple[float, float], frame: int) -> np.ndarray:
    """Cosine similarity of every token with the one under a point (x, y), in pixels of the clip, in
    a frame, by its file number: float32 (steps, rows, columns), −1 to 1.
    """
    row, column = features.token_at(point)
    token = F.normalize(features.values[step_of(features, frame), row, column], dim=-1)
    return torch.stack([F.normalize(x, dim=-1) @ token for x in features.values]).numpy()


def step_of(features: Features, frame: int) -> int:
    """The step that covers a file frame number; UserError if none does."""
    covered = (features.frames == frame).any(1)
    if not covered.any():
        raise UserError(
            f"Frame {frame} is not among the {features.frames.unique().numel()} frames that were "
            f"encoded, from {features.frames.min()} to {features.frames.max()}."
        )
    return int(covered.nonzero()[0])


def measures(features: Features, *more: Features) -> dict[str, float | np.ndarray]:
    """Numbers of a representation on one clip, or on more of one grid.

    Returns:
        {"effective rank": exponential of the entropy of the spectrum, 1 to channels (Roy & Vetterli
            2007);
        "spectrum": float64 (channels,), shares of the variance in falling order;
        "anisotropy": mean cosine between different tokens, −1 to 1 (Ethayarajh 2019);
        "place", "step", "clip": shares of the variance, 0 to 1, that the mean over all else of a
            (row, column), of a step and of a clip explain; "clip" is 0 for a single one;
        "outliers": int (n, 4), clip, step, row, column of tokens whose norm is more than 6 robust
            standard deviations (1.48 median absolute deviations) above the median}.
    """
    clips = [each.values for each in (features, *more)]
    if len({x.shape for x in clips}) > 1 or features.values[..., 0].numel() * len(clips) < 2:
        raise UserError(
            "measures needs features of one shape and at least two tokens, not "
            f"{', '.join(str(tuple(x.shape)) for x in clips)}."
        )
    x = torch.stack(clips).double()  # (clips, steps, rows, columns, channels)
    tokens = x.flatten(0, 3)
    count, centred = len(tokens), tokens - tokens.mean(0)
    spectrum = torch.linalg.eigvalsh(centred.T @ centred / count).flip(0).clamp(min=0)
    total = spectrum.sum().clamp(min=1e-30)
    spectrum = (spectrum / total).numpy()
    explained = lambda *axes: float((x.mean(axes) - tokens.mean(0)).square().sum(-1).mean() / total)
    norms = x.norm(dim=-1).numpy()
    spread = median_abs_deviation(norms, axis=None, scale="normal")
    outlying = norms > np.median(norms) + OUTLIER * spread
    length = F.normalize(tokens, dim=1).sum(0).square().sum()
    return {
        "effective rank": float(np.exp(entropy(spectrum))),
        "spectrum": spectrum,
        "anisotropy": float((length - count) / (count * (count - 1))),
        "place": explained(0, 1),
        "step": explained(0, 2, 3),
        "clip": explained(1, 2, 3) if more else 0.0,
        "outliers": np.argwhere(outlying),
    }


def cka(a: Features, b: Features) -> float:
    """Linear centred kernel alignment of two representations of the same tokens, 0 to 1: 1 under
    rotation and scale (Kornblith et al. 2019, equation 5).
    """
    x, y = (each.values.double().flatten(0, 2) for each in _same_tokens(a, b))
    x, y = x - x.mean(0), y - y.mean(0)
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def shared_neighbours(a: Features, b: Features, k: int = NEIGHBOURS) -> float:
    """Mean share of the k nearest tokens (cosine) that two representations of the same tokens have
    in common, 0 to 1 (Huh et al. 2024). Of more than 2,048 tokens so many, evenly taken.
    """
    near = []
    for each in _same_tokens(a, b):
        tokens = each.values.flatten(0, 2).numpy()
        tokens = tokens[evenly(len(tokens), TOKENS)]
        k = min(k, len(tokens) - 1)
        near.append(NearestNeighbors(n_neighbors=k, metric="cosine").fit(tokens).kneighbors_graph())
    return float(near[0].multiply(near[1]).sum() / near[0].sum())


def numbers_table(features: dict[str, Features]) -> str:
    """What `measures` says of several encoders or layers of one clip, and how similar each is to
    the first, as text.
    """
    head = "effective rank", "anisotropy", "place", "step", "outliers", "CKA", "neighbours"
    lines, first = [f"{'':24}" + "".join(f"{word:>16}" for word in head)], next(iter(features))
    for name, each in features.items():
        row, base = measures(each), features[first]
        values = [row[word] for word in head[:4]]
        values += [len(row["outliers"]), cka(base, each), shared_neighbours(base, each)]
        lines.append(f"{name[-24:]:24}" + "".join(f"{value:16.3g}" for value in values))
    return "\n".join([*lines, f"CKA and shared neighbours: with {first}."])


def layers_figure(layers: dict[int | str | None, Features]) -> Figure:
    """Numbers of a representation by layer, each on a scale of its own: {layer: Features} of one
    encoder, as `Encoder.encode(video, layers="all")` gives them.
    """
    names = ["norm" if layer is None else str(layer) for layer in layers]
    last, figure = layers[next(reversed(layers))], new_figure(2.2)
    rows = [measures(each) | {"CKA": cka(each, last)} for each in layers.values()]
    for axis, word in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        axis.plot(names, [row[word] for row in rows], ".-", color="black", linewidth=1)
        axis.set_title(CURVES[word], fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("block", fontsize=7)
    return with_heading(figure, f"{last.encoder}, {len(last.frames)} steps of a clip")


def _same_tokens(a, b):
    if a.grid != b.grid or a.frames.tolist() != b.frames.tolist():
        raise UserError(
            f"{a.encoder} and {b.encoder} must be compared on the same tokens, not on grids of "
            f"{a.grid} and {b.grid}: encode both with comparison.on_one_grid."
        )
    return a, b
