"""A name to an encoder; in what image encoders and V-JEPA 2.1 differ from V-JEPA 2."""

import torch

from vjepa_utils.checks import UserError
from vjepa_utils.encoder import Encoder
from vjepa_utils.files import File
from vjepa_utils.model.devices import best_device, fast_dtype
from vjepa_utils.model.vjepa2_1 import LEVELS
from vjepa_utils.weights.checkpoints import find, label, pixel_statistics
from vjepa_utils.weights.folder import ONLINE
from vjepa_utils.weights.models import load_model


class ImageEncoder(Encoder):
    """DINOv2 or DINOv3: frames are encoded independently; class and register tokens are dropped.
    Context "frame", the default, gives a step for each frame, "pair" the mean of two frames.
    """

    contexts = {None: 1, "frame": 1, "pair": 2}
    takes_single_frames = True

    def _tokens(self, pixels, shift=(0, 0), layers=(None,)):
        patches = (pixels.shape[3] // self.patch_size) * (pixels.shape[4] // self.patch_size)
        out = self.model(pixels.flatten(0, 1).to(self.dtype), output_hidden_states=any(layers))
        states = [out.last_hidden_state if k is None else out.hidden_states[k] for k in layers]
        # (groups · frames, 1 + registers + patches, channels) to (groups, patches, channels)
        return [x[:, -patches:].unflatten(0, pixels.shape[:2]).mean(1) for x in states]


class VJEPA21Encoder(Encoder):
    """A V-JEPA 2.1 encoder: as for V-JEPA 2, except for single frames and layers.

    Frames of context "frame", and the only one of a clip, go through the image branch, once, as in
    training. `layer` None is the norm of the last level; "level 1" to "level 4" are the norms of
    the four levels; "levels" all four, channels of level 1 first. In the distilled ViT-B and ViT-L
    the first three norms were never trained.

    levels: {name: number of the block before it, from 1}.
    """

    takes_single_frames = True
    named_layers = {None: 1, **dict.fromkeys(LEVELS, 1), "levels": len(LEVELS)}

    @property
    def levels(self):
        return dict(zip(LEVELS, self.model.config.levels, strict=True))


def load_encoder(
    name: File = "vjepa2-demo",
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    weights: str | None = None,
    config: dict | None = None,
) -> Encoder:
    """Load an encoder.

    Args:
        name: "vjepa2-demo" or "dino-demo"; a Hugging Face id (see `CHECKPOINTS`) or a folder, with
            V-JEPA 2 (of a classification head the encoder), V-JEPA 2.1, DINOv2 or DINOv3; a V-JEPA
            2.1 by name (see `download.RELEASED`); or a .pt file of V-JEPA 2 or 2.1.
        device: None takes CUDA, else MPS, else the CPU.
        dtype: None takes bfloat16 where the device is fast at it, else float32.
        weights: of a .pt file. None or "target_encoder": the moving average; "encoder": the online
            one; "both": the former, and the latter as `Encoder.online`, from whose visible tokens
            `recover` and `surprise` then predict, as in training.
        config: fields of config.json, such as {"num_attention_heads": 12}, for a .pt file of
            training without one beside it.
    Raises:
        UserError: there is none of that name, it is not whole, or its configuration does not fit.
        ConnectionError: not in the cache and the hub out of reach.
    """
    place = find(str(name))
    device = torch.device(device or best_device())
    named, dtype = dtype, dtype or fast_dtype(device)
    if isinstance(named, str):
        dtype = getattr(torch, named.removeprefix("torch."), None)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise UserError(f'dtype must be such as "bfloat16" or torch.float32, not {named!r}.')
    first = None if weights == "both" else weights
    model = load_model(place, dtype, first, config).to(device)
    kinds = {"vjepa2": Encoder, "vjepa2_1": VJEPA21Encoder}
    kind = kinds.get(model.config.model_type, ImageEncoder)
    encoder = kind(model, label(str(name)), *pixel_statistics(place))
    if weights == "both":
        online = load_model(place, dtype, ONLINE, config).to(device)
        encoder.online, online.predictor = online, None
    return encoder
