"""Numbers of a representation: its rank, what its variance is about, outliers, and how similar two
are on the same tokens.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from vjepa_utils.checks import UserError
from vjepa_utils.drawing import evenly, new_figure, with_heading
from vjepa_utils.features import Features

OUTLIER = 6  # robust standard deviations above the median norm
NEIGHBOURS, TOKENS = 10, 2048  # of each token; compared, evenly taken


def measures(features: Features, *more: Features) -> dict[str, float | np.ndarray]:
    """Numbers of a representation on one clip, or on several of one grid.

    Args:
        features: of a clip.
        more: of further clips, by the same encoder.
    Returns:
        {"effective rank": exponential of the entropy of the spectrum, 1 to channels (Roy & Vetterli
            2007);
        "spectrum": float64 (channels,), shares of the variance in falling order;
        "anisotropy": mean cosine between different tokens, −1 to 1 (Ethayarajh 2019);
        "place", "step", "clip": shares of the variance, 0 to 1, that the mean over all else of a
            (row, column), of a step and of a clip explain; "clip" is 0 for a single one;
        "outliers": int (n, 4), clip, step, row, column of tokens whose norm is more than 6 robust
            standard deviations (1.48 median absolute deviations) above the median}.
    Raises:
        UserError: grids or channels differ, or there are fewer than two tokens.
    """
    every = [features, *more]
    shapes = {each.values.shape for each in every}
    if len(shapes) > 1 or features.values.shape[:3].numel() * len(every) < 2:
        raise UserError(
            "measures needs features of one shape and at least two tokens, not "
            f"{', '.join(str(tuple(shape)) for shape in shapes)}."
        )
    x = torch.stack([each.values for each in every]).double()  # (clips, steps, rows, columns, c)
    tokens = x.flatten(0, 3)
    count, centred = len(tokens), tokens - tokens.mean(0)
    spectrum = torch.linalg.eigvalsh(centred.T @ centred / count).flip(0).clamp(min=0)
    total = spectrum.sum()
    spectrum = spectrum / total if total else spectrum
    some = spectrum[spectrum > 0]
    explained = lambda axes: float(
        (x.mean(axes) - tokens.mean(0)).square().sum(-1).mean() / total.clamp(min=1e-30)
    )
    norms = tokens.norm(dim=1)
    deviation = 1.4826 * (norms - norms.median()).abs().median()
    outlying = (norms > norms.median() + OUTLIER * deviation).view(x.shape[:4])
    length = F.normalize(tokens, dim=1).sum(0).square().sum()
    return {
        "effective rank": float((-some * some.log()).sum().exp()),
        "spectrum": spectrum.numpy(),
        "anisotropy": float((length - count) / (count * (count - 1))),
        "place": explained((0, 1)),
        "step": explained((0, 2, 3)),
        "clip": explained((1, 2, 3)) if len(every) > 1 else 0.0,
        "outliers": outlying.nonzero().numpy(),
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
    nearest = []
    for each in _same_tokens(a, b):
        tokens = F.normalize(each.values.flatten(0, 2), dim=1)
        tokens = tokens[evenly(len(tokens), TOKENS)]
        cosine = (tokens @ tokens.T).fill_diagonal_(-torch.inf)
        nearest.append(cosine.topk(min(k, len(tokens) - 1)).indices)
    common = (nearest[0].unsqueeze(2) == nearest[1].unsqueeze(1)).any(2)
    return float(common.float().mean())


def numbers_table(features: dict[str, Features]) -> str:
    """What `measures` says of several encoders or layers of one clip, and how similar each is to
    the first, as text.
    """
    head = "effective rank", "anisotropy", "place", "step", "outliers", "CKA", "neighbours"
    lines = ["".join([f"{'':24}", *(f"{word:>16}" for word in head)])]
    first = next(iter(features.values()))
    for name, each in features.items():
        found = measures(each)
        values = [found[word] for word in head[:4]]
        values += [len(found["outliers"]), cka(first, each), shared_neighbours(first, each)]
        lines.append("".join([f"{name[-24:]:24}", *(f"{value:16.3g}" for value in values)]))
    return "\n".join([*lines, f"CKA and shared neighbours: with {next(iter(features))}."])


def layers_figure(layers: dict[int | str | None, Features]) -> Figure:
    """Numbers of a representation by layer, each on a scale of its own: {layer: Features} of one
    encoder, as `Encoder.encode(video, layers="all")` gives them.
    """
    rows = [measures(each) for each in layers.values()]
    last = next(reversed(layers.values()))
    curves = {word: [row[word] for row in rows] for word in ("effective rank", "anisotropy")}
    curves |= {f"variance by {word}": [row[word] for row in rows] for word in ("place", "step")}
    curves["CKA with the last"] = [cka(each, last) for each in layers.values()]
    figure = new_figure(2.2)
    names = ["norm" if layer is None else str(layer) for layer in layers]
    for axis, (word, values) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        axis.plot(names, values, ".-", color="black", linewidth=1)
        axis.set_title(word, fontsize=8)
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
