"""Train the image encoder `dino-demo` as vjepa2-demo is trained, on single frames.

    python -m demo.recipe.distil --start dino-demo --out runs/distil --targets runs/targets \\
        --teacher ../shared/teacher --photos ../shared/photos \\
        --clips ../shared/train_clips     # again: resumes
    python -m demo.recipe.distil --start dino-demo --out runs/distil \\
        --export vjepa_utils/shipped/dino-demo

The same teacher, photographs, rendered scenes, crops and losses, but single frames alone: no
pairs, no motion, no clips. The two encoders differ in temporal context alone. `--start none` begins
with random weights.
"""

import copy
import json
from pathlib import Path

import torch
from transformers import Dinov2Config, Dinov2Model

from demo.recipe.teach import FOLDERS, Teaching, supply
from demo.recipe.training import MEAN, PATCH, STD, train

CONFIG = dict(image_size=128, patch_size=PATCH, mlp_ratio=4, layerscale_value=1.0)
CONFIG |= dict(hidden_size=192, num_attention_heads=3, num_hidden_layers=9)  # as vjepa2-demo


class Distillation(Teaching):
    modes = ["frame"]

    def build(self, start):
        if start == "none":
            self.model = Dinov2Model(Dinov2Config(**CONFIG))
        else:
            self.model = Dinov2Model.from_pretrained(start, dtype=torch.float32)
        self.model = self.model.to(self.device).train().requires_grad_(True)
        self.add_readouts(CONFIG["hidden_size"])

    def encode(self, pixels, mode, places):
        """As `Correspondence.encode`; both frames of a step are the same."""
        with self.autocast():
            x = self.model(pixels[:, :, 0].flatten(0, 1)).last_hidden_state
        return x[:, 1:].float().unflatten(0, pixels.shape[:2])  # without the class token

    def export(self, folder):
        """Write the model in Hugging Face format and half precision, and the pixel statistics."""
        copy.deepcopy(self.model).half().save_pretrained(folder)
        about = {"image_mean": MEAN.tolist(), "image_std": STD.tolist()}
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    train(
        Distillation, supply, "learning from a teacher, single frames", steps=1300, folders=FOLDERS
    )
