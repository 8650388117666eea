"""A light head that refines frozen features for tracking, and predicts what is visible.

After Chrono (Kim et al. 2025, arXiv 2501.12218): the encoder is frozen; a few layers, a cosine cost
volume, a soft-argmax (`vjepa_utils.tracking`), and occlusion and uncertainty from the cost volume.
Chrono's layers over time are left out: on features of single frames they brought nothing. Weights
and recipe: vjepa_utils/shipped/track-head, demo/recipe/follow.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import nn

from vjepa_utils.checks import UserError
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.files import shipped
from vjepa_utils.video import File

STRIDE = 4  # pixels of the encoded picture per cell
WIDTH, OUT = 64, 128  # channels of the convolutions, and of what is compared


class TrackHead(nn.Module):
    """Layers over frozen features. `config` says which features they were trained on: encoder,
    fingerprint and channels of an `Encoder`, layer and size of its `encode`.
    """

    def __init__(self, config, name="track-head"):
        super().__init__()
        self.config, self.name = config, name
        conv = lambda kind: nn.Conv2d(WIDTH, WIDTH, kind, padding=kind // 2)
        self.reduce = nn.Sequential(
            nn.LayerNorm(config["channels"]), nn.Linear(config["channels"], OUT)
        )
        self.squeeze = nn.Conv2d(OUT, WIDTH, 1)
        self.refine = nn.Sequential(
            nn.GELU(), conv(3), nn.GELU(), conv(3), nn.GELU(), nn.Conv2d(WIDTH, OUT, 1)
        )
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 5, 2, 2), nn.GELU(), nn.Conv2d(32, WIDTH, 3, 2, 1)
        )
        self.judge = nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, 2))

    def forward(self, values: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Features to maps that are compared.

        Args:
            values: (frames, rows, columns, channels).
            pixels: (frames, 3, height, width), 0 to 1, sides multiples of 4.
        Returns:
            (frames, height / 4, width / 4, 128), L2-normalised.
        """
        x = self.reduce(values).permute(0, 3, 1, 2)  # (frames, OUT, rows, columns)
        fine = [side // STRIDE for side in pixels.shape[2:]]
        x = F.interpolate(x, fine, mode="bilinear", align_corners=False)
        x = x + self.refine(self.squeeze(x) + self.stem(pixels - 0.5))
        return F.normalize(x, dim=1).permute(0, 2, 3, 1)

    def doubts(self, evidence: torch.Tensor) -> torch.Tensor:
        """Logits (…, 2) of: it is occluded; it is more than 6 pixels wrong. From the evidence (…,
        5) of `tracking.match`.
        """
        cosines, share, back = evidence.split([3, 1, 1], -1)
        return self.judge(torch.cat([cosines, share / 4, back.add(1).log() / 2], -1))

    def occluded(self, evidence: torch.Tensor) -> torch.Tensor:
        """(…,) bool: 1 - (1 - σ(occluded)) (1 - σ(wrong)) > 0.5."""
        return torch.sigmoid(-self.doubts(evidence)).prod(-1) < 0.5

    def check(self, encoder: Encoder | Features) -> None:
        """UserError unless the head was trained on features of this encoder, or on such ones."""
        trained, weights = self.config, getattr(encoder, "fingerprint", None)
        name = encoder.encoder if isinstance(encoder, Features) else encoder.name
        channels = encoder.values.shape[-1] if isinstance(encoder, Features) else encoder.channels
        same = channels == trained["channels"]
        if not same or weights not in (None, trained.get("fingerprint", weights)):
            raise UserError(
                f"The head {self.name} was trained on other weights than those of {name} "
                f"({channels} channels): load {trained['encoder']}, leave the head out or train "
                "one (demo/recipe/follow.py)."
            )

    def save(self, folder: File) -> None:
        """Write config.json and model.safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        save_model(self, folder / "model.safetensors")


def load_head(name: File = "track-head") -> TrackHead:
    """The shipped head by its name, or one from a folder; every weight accounted for.

    Raises:
        UserError: there is none, or its weights are not those of its configuration.
    """
    folder = shipped(name) if name == "track-head" else Path(name)
    try:
        head = TrackHead(json.loads((folder / "config.json").read_text()), folder.name)
        head.load_state_dict(load_file(folder / "model.safetensors"))
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise UserError(
            f"The head {str(name)!r} cannot be loaded, give track-head or a folder with its "
            f"config.json and model.safetensors: {' '.join(str(error).split())}."
        ) from None
    return head.eval().requires_grad_(False)
