"""What studies of the predictor need: the predictor, its mask token, and features as it predicts
them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.model.vjepa2 import Transformer

if TYPE_CHECKING:
    from vjepa_utils.encoder import Encoder


def predictor_of(encoder: Encoder) -> Transformer:
    """The encoder's predictor; ValueError if it has none, or one that predicts another encoder's
    features.
    """
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


def mask_token_of(rows: torch.Tensor, wanted: int | None, name: str) -> int:
    """The row of the mask tokens (n, 1, 1, channels) to use: training uses one, and the others keep
    their initial zeros.
    """
    if wanted is not None:
        if not (is_whole(wanted, 0) and wanted < len(rows)):
            raise UserError(
                f"mask_token must be a whole number from 0 to {len(rows) - 1} for {name}, not "
                f"{wanted!r}."
            )
        return int(wanted)
    trained = [row for row in range(len(rows)) if rows[row].any()]
    if len(trained) == 1 or len(rows) == 1:
        return (trained or [0])[0]
    found = f"{len(trained)} of the {len(rows)} mask tokens of {name} are not zero"
    warnings.warn(
        f"{found}, so the trained one is not known: 0 is used; choose another with mask_token.",
        stacklevel=5,
    )
    return 0
