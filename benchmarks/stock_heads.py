"""Classification heads as the reference evaluates them and as stock transformers does: python -m
benchmarks.stock_heads

On the cases of tests/golden_heads: the reference's own encoder, clip aggregation and classifier on
random weights, with different numbers of heads in the pooler and in the encoder, as in ViT-g. Each
difference in isolation, then all.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import VJEPA2ForVideoClassification

from benchmarks import pages
from vjepa_utils.actions.heads import Reading, head_logits, load_classifier, segment_tokens

GOLDEN = Path(__file__).parent.parent / "tests" / "golden_heads"
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def logits_of(name, clips, reading, joined=True):
    """(passes, classes): a pass for each view, or for each segment of each view.

    clips: normalised pixels (segments, views, frames, 3, height, width).
    """
    model, _ = load_classifier(GOLDEN / name, name, reading, torch.float32)
    found = []
    for view in clips.unbind(1):
        tokens = segment_tokens(model, view, reading.levels)  # (segments, tokens, channels)
        found.append(head_logits(model, tokens.flatten(0, 1)[None] if joined else tokens))
    return torch.cat(found)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(
        description="Heads as the reference and as stock evaluate them"
    )
    pages.add_into(parser)
    arguments, cells = parser.parse_args(), []
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
        deviation = case["logits"].std()
        for label, logits in rows.items():
            moved = (logits.softmax(1).mean(0) - case["probabilities"]).abs().sum()
            error = (logits.mean(0) - case["logits"].mean(0)).square().mean().sqrt() / deviation
            case_of = f"{name}, {about['segments']} segments, {about['views']} views"
            cells.append([case_of, label, f"{moved:.1e}", f"{error:.1e}"])
    head = ["case", "evaluated", "probabilities, L1", "logits, of their deviation"]
    text = f"Random weights of `tests/golden_heads/`.\n\n{pages.table(head, cells)}"
    pages.publish({"benchmarks.stock_heads": text}, arguments.into)


if __name__ == "__main__":
    main()
