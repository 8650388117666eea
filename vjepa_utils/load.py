"""A name to an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vjepa_utils.encoder import Encoder
from vjepa_utils.image import ImageEncoder
from vjepa_utils.model.devices import best_device, fast_dtype
from vjepa_utils.model.vjepa2_1 import VJEPA21Encoder
from vjepa_utils.weights.checkpoints import find, label, load_model, pixel_statistics

if TYPE_CHECKING:
    from vjepa_utils.annotations import File


def load_encoder(
    name: File = "vjepa2-demo",
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Encoder:
    """Load an encoder.

    Args:
        name: "vjepa2-demo" or "dino-demo", a Hugging Face id (see `checkpoints.CHECKPOINTS`), or a
            local folder in Hugging Face format: V-JEPA 2 (with a classification head it gives its
            encoder), DINOv2 (with registers or without), DINOv3. V-JEPA 2.1: a name (see
            `released_2_1.RELEASED`, such as "vjepa2_1_vitb_dist_vitG_384"), fetched once into
            ~/.cache/vjepa_utils or $XDG_CACHE_HOME/vjepa_utils, or the path of such a .pt file.
        device: None takes CUDA, else MPS, else the CPU.
        dtype: None takes bfloat16 where the device is fast at it, else float32.
    Returns:
        Encoder; for DINOv2 and DINOv3 an `ImageEncoder`, for V-JEPA 2.1 a `VJEPA21Encoder`.
    Raises:
        ValueError: unknown name, another kind of model, missing or unexpected weights, no access to
            a gated one.
        ConnectionError: not in the cache and the hub out of reach; the message says what to run.
    """
    folder = find(str(name))
    device = torch.device(device or best_device())
    model = load_model(folder, dtype or fast_dtype(device)).to(device)
    kinds = {"vjepa2": Encoder, "vjepa2_1": VJEPA21Encoder}
    kind = kinds.get(model.config.model_type, ImageEncoder)
    return kind(model, label(str(name)), *pixel_statistics(folder))
