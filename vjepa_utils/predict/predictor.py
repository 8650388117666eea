"""The predictor of an encoder, its mask token, features as it predicts them, and errors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.model.vjepa2 import Transformer

if TYPE_CHECKING:
    from vjepa_utils.encoder import Encoder


def predictor_of(encoder: Encoder) -> Transformer:
    """The encoder's predictor; UserError if it has none of its own features."""
    predictor = getattr(encoder.model, "predictor", None)
    if predictor is None:
        raise UserError(
            f"{encoder.name} has no predictor, so it predicts nothing: take a V-JEPA 2 checkpoint."
        )
    channels = getattr(encoder.model.config, "pred_out_size", encoder.channels)
    if channels != encoder.channels:
        raise UserError(
            f"{encoder.name} was distilled: its predictor predicts the {channels} channels of its "
            f"teacher, not its own {encoder.channels}, so there is nothing to compare it with; "
            "vjepa2_1_vitg_384 and vjepa2_1_vitG_384 predict their own."
        )
    return predictor


def normalised(x: torch.Tensor, channels: int | None = None) -> torch.Tensor:
    """Layer norm of each level, `channels` wide (None: all are one), without scale or shift, as in
    training (facebookresearch/vjepa2 `app/vjepa/train.py`, `app/vjepa_2_1/train.py`; eps 1e-5).
    """
    channels = channels or x.shape[-1]
    return F.layer_norm(x.unflatten(-1, (-1, channels)), (channels,)).flatten(-2)


def mask_token_of(encoder: Encoder, wanted: int | None) -> int:
    """Which of the mask tokens to use: training uses one, the others keep their initial zeros."""
    tokens = predictor_of(encoder).embeddings.mask_tokens  # (n, 1, 1, channels)
    if wanted is not None:
        if not (is_whole(wanted, 0) and wanted < len(tokens)):
            raise UserError(
                f"mask_token must be a whole number from 0 to {len(tokens) - 1} for "
                f"{encoder.name}, not {wanted!r}."
            )
        return int(wanted)
    trained = [number for number, token in enumerate(tokens) if token.any()]
    if len(trained) != 1 and len(tokens) > 1:
        warnings.warn(
            f"{len(trained)} of the {len(tokens)} mask tokens of {encoder.name} are not zero, so "
            "the trained one is not known: 0 is used; choose another with mask_token.",
            stacklevel=4,
        )
        return 0
    return (trained or [0])[0]


def errors(guess: torch.Tensor, truth: torch.Tensor) -> dict[str, np.ndarray]:
    """{"cosine", "l1"} over the last axis: similarity, and mean absolute difference."""
    cosine, l1 = F.cosine_similarity(guess, truth, dim=-1), (guess - truth).abs().mean(-1)
    return {"cosine": cosine.cpu().numpy(), "l1": l1.cpu().numpy()}


def scores(result, error: str) -> dict[str, np.ndarray]:
    """{"prediction" or baseline: "cosine" or "l1"} of a `Recovery` or a `Surprise`."""
    if error not in ("cosine", "l1"):
        raise UserError(f'error must be "cosine" or "l1", not {error!r}.')
    baselines = {name: of[error] for name, of in result.baselines.items()}
    return {"prediction": getattr(result, error)} | baselines
