"""A light head that refines frozen features for tracking, and predicts what is visible.

After Chrono (Kim et al. 2025, arXiv 2501.12218): the encoder is frozen; a few layers, a cosine cost
volume, a soft-argmax (`vjepa_utils.tracking`), and occlusion and uncertainty from the cost volume.
Chrono's layers over time are left out: on features of single frames they brought nothing. Weights
and recipe: vjepa_utils/shipped/track-head, demo/recipe/follow.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vjepa_utils.checks import UserError
from vjepa_utils.files import shipped
from vjepa_utils.reading.pixels import resized
from vjepa_utils.video import File

SHIPPED = {"track-head": shipped("track-head")}
PARTS = "upsampling", "stem"
STRIDE = 4  # pixels of the encoded picture per cell, with upsampling
WIDTH, OUT = 64, 128  # channels of the convolutions, and of what is compared


class TrackHead(nn.Module):
    """Layers over frozen features. `config` says which features they were trained on:

    encoder, fingerprint, channels, layer, context, size: as of `Encoder` and its `encode`.
    parts: which of `PARTS` there are. Without upsampling, cells stay patches, and there is no stem,
        which reads the pixels on the fine grid.
    """

    def __init__(self, config, name="track-head"):
        super().__init__()
        self.config, self.name, parts = config, name, config["parts"]
        self.reduce = nn.Sequential(
            nn.LayerNorm(config["channels"]), nn.Linear(config["channels"], OUT)
        )
        if "upsampling" in parts:
            conv = lambda kind: nn.Conv2d(WIDTH, WIDTH, kind, padding=kind // 2)
            self.squeeze = nn.Conv2d(OUT, WIDTH, 1)
            self.refine = nn.Sequential(
                nn.GELU(), conv(3), nn.GELU(), conv(3), nn.GELU(), nn.Conv2d(WIDTH, OUT, 1)
            )
        if "stem" in parts:
            self.stem = nn.Sequential(
                nn.Conv2d(3, 32, 5, 2, 2), nn.GELU(), nn.Conv2d(32, WIDTH, 3, 2, 1)
            )
        self.judge = nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, 2))

    def forward(self, values: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Features to maps that are compared.

        Args:
            values: (frames, rows, columns, channels).
            pixels: (frames, 3, height, width), 0 to 1.
        Returns:
            (frames, rows, columns, 128), L2-normalised; with upsampling at a stride of 4 pixels.
        """
        x = self.reduce(values).permute(0, 3, 1, 2)  # (frames, OUT, rows, columns)
        if "upsampling" in self.config["parts"]:
            x = F.interpolate(
                x,
                [side // STRIDE for side in pixels.shape[2:]],
                mode="bilinear",
                align_corners=False,
            )
            fine = self.squeeze(x)
            if "stem" in self.config["parts"]:
                fine = fine + self.stem(pixels - 0.5)
            x = x + self.refine(fine)
        return F.normalize(x, dim=1).permute(0, 2, 3, 1)

    @staticmethod
    def pixels(frames: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
        """Frames uint8 (n, H, W, 3) as `forward` takes them. size: (height, width) encoded."""
        size = [side // STRIDE * STRIDE for side in size]
        return torch.stack([resized(frame, size) for frame in frames]) / 255

    def doubts(self, evidence: torch.Tensor) -> torch.Tensor:
        """Logits (…, 2) of: it is occluded; it is more than 6 pixels wrong. From the evidence (…,
        5) of `tracking.match`.
        """
        scaled = torch.cat(
            [evidence[..., :3], evidence[..., 3:4] / 4, evidence[..., 4:].add(1).log() / 2], -1
        )
        return self.judge(scaled)

    def occluded(self, evidence: torch.Tensor) -> torch.Tensor:
        """(…,) bool: 1 - (1 - σ(occluded)) (1 - σ(wrong)) > 0.5."""
        return torch.sigmoid(-self.doubts(evidence)).prod(-1) < 0.5

    def check(self, channels: int, encoder: str, fingerprint: str | None = None) -> None:
        """ValueError if features of so many channels, of the encoder of that name and, where it is
        known, fingerprint, are not what the head was trained on.
        """
        if channels != self.config["channels"]:
            raise UserError(
                f"The head {self.name} refines the {self.config['channels']} channels of "
                f"{self.config['encoder']}, and {encoder} has {channels}: leave the head out or "
                "train one (demo/recipe/follow.py)."
            )
        if fingerprint and fingerprint != self.config.get("fingerprint", fingerprint):
            raise UserError(
                f"The head {self.name} was trained on other weights than those of {encoder}: load "
                f"those of {self.config['encoder']}, leave the head out or train one "
                "(demo/recipe/follow.py)."
            )

    def save(self, folder: File) -> None:
        """Write config.json and model.safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        save_file(
            {name: weight.contiguous() for name, weight in self.state_dict().items()},
            folder / "model.safetensors",
        )


def load_head(name: File = "track-head") -> TrackHead:
    """A shipped head by its name, or one from a folder; every weight accounted for.

    Raises:
        ValueError: there is none, or its weights are not those of its configuration.
    """
    folder = SHIPPED.get(str(name), Path(name))
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise UserError(
            f"There is no head {str(name)!r}: give {', '.join(SHIPPED)} or a folder with "
            "config.json and model.safetensors."
        )
    try:
        head = TrackHead(json.loads((folder / "config.json").read_text()), folder.name)
        head.load_state_dict(load_file(folder / "model.safetensors"))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"The head in {folder} cannot be loaded: {' '.join(str(error).split())}."
        ) from None
    return head.eval().requires_grad_(False)
