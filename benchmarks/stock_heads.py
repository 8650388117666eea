"""Classification heads as the reference evaluates them and as stock transformers does: python -m
benchmarks.stock_heads

On the cases of tests/golden_heads: the reference's own encoder, clip aggregation and classifier on
random weights, with another number of heads in the pooler than in the encoder, as ViT-g has. Each
difference by itself, then all.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import VJEPA2ForVideoClassification

from vjepa_utils.actions.heads import Reading, head_logits, load_head, segment_tokens

GOLDEN = Path(__file__).parent.parent / "tests" / "golden_heads"
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def logits_of(name, clips, reading, joined=True):
    """(passes, classes): a pass for each view, or for each segment of each view.

    clips: normalised pixels (segments, views, frames, 3, height, width).
    """
    model, _ = load_head(GOLDEN / name, name, reading, torch.float32)
    found = []
    for view in clips.unbind(1):
        tokens = segment_tokens(model, view, reading.levels)  # (segments, tokens, channels)
        found.append(head_logits(model, tokens.flatten(0, 1)[None] if joined else tokens))
    return torch.cat(found)


@torch.no_grad()
def main():
    for name, about in json.loads((GOLDEN / "cases.json").read_text()).items():
        case = load_file(GOLDEN / f"{name}.safetensors")
        clips = (case["clips"].movedim(-1, -3) / 255 - MEAN) / STD
        right = Reading(
            pooler_heads=about["pooler_heads"],
            pooler_eps=about["pooler_layer_norm_eps"],
            levels=tuple(about["levels"] or ()),
        )
        rows = {
            "as the reference": logits_of(name, clips, right),
            "segments apart": logits_of(name, clips, right, joined=False),
            f"{about['encoder_heads']} pooler heads for {about['pooler_heads']}": logits_of(
                name, clips, replace(right, pooler_heads=None)
            ),
            "epsilon 1e-6 for 1e-5": logits_of(name, clips, replace(right, pooler_eps=None)),
        }
        if right.levels:
            rows["the last level for four"] = logits_of(name, clips, replace(right, levels=()))
        stock = VJEPA2ForVideoClassification.from_pretrained(GOLDEN / name).eval()
        rows["all of these"] = logits_of(name, clips, Reading(), joined=False)
        rows["stock transformers"] = stock(clips.transpose(0, 1).flatten(0, 1)).logits
        print(f"{name}: {about['segments']} segments, {about['views']} views")
        print(f"{'':26} {'probabilities, L1':>17} {'logits, of their deviation':>27}")
        spread = case["logits"].std()
        for label, logits in rows.items():
            moved = (logits.softmax(1).mean(0) - case["probabilities"]).abs().sum()
            error = (logits.mean(0) - case["logits"].mean(0)).square().mean().sqrt() / spread
            print(f"{label:26} {moved:17.1e} {error:27.1e}")


if __name__ == "__main__":
    main()
