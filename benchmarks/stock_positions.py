"""True and stock positions against the reference implementation: python -m
benchmarks.stock_positions

Relative L2 errors in float32 on the cases of tests/golden, whose checkpoint has random weights with
active attention.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

import vjepa_utils as vj
from benchmarks import pages
from benchmarks.baselines import StockPositions
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"


def error(a, b):
    return ((a - b).norm() / b.norm()).item()


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description="True and stock positions against the reference")
    pages.add_into(parser)
    arguments = parser.parse_args()
    encoder = vj.load_encoder(GOLDEN / "model", device="cpu", dtype=torch.float32)
    rows = []
    for name, about in json.loads((GOLDEN / "cases.json").read_text()).items():
        case = load_file(GOLDEN / f"{name}.safetensors")
        size, grid = (
            tuple(case["frames"].shape[1:3]),
            (about["steps"], about["rows"], about["columns"]),
        )
        stock, true = (
            each.encode(case["frames"], "clip", size).values.flatten(0, 2)
            for each in (StockPositions(encoder), encoder)
        )
        visible, hidden = case["visible"].unsqueeze(0), case["hidden"].unsqueeze(0)
        context = encode_tokens(
            encoder.model, encoder.pixels(case["frames"].numpy(), size).unsqueeze(0), visible
        )
        predicted = predict_tokens(encoder.model, context, visible, hidden, grid)[0]
        errors = (
            error(stock, case["tokens"]),
            error(true, case["tokens"]),
            error(context[0], case["visible_tokens"]),
        )
        last = error(predicted, case["predicted_mask_token_0"])
        picture = f"{size[0]}×{size[1]}"
        rows.append([name, picture, *(f"{e:.1e}" for e in (*errors, last))])
    head = ["case", "picture", "stock", "true", "visible tokens only", "predictor"]
    about = "Relative L2 errors, random weights of `tests/golden/`."
    text = f"{about}\n\n{pages.table(head, rows)}"
    pages.publish({"benchmarks.stock_positions": text}, arguments.into)


if __name__ == "__main__":
    main()
