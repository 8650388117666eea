"""The command `convert`, and the arguments for a .pt file that it shares with `info`."""

import argparse

from vjepa_utils import cli

PT = argparse.ArgumentParser(add_help=False)
PT.add_argument("--weights", help="of a .pt file: target_encoder, the moving average, or encoder")
FIELDS = {
    "num_attention_heads": ("--heads", "heads of its encoder"),
    "pred_num_attention_heads": ("--predictor-heads", "heads of its predictor"),
    "crop_size": ("--training-size", "side of the training squares"),
}
for field, (flag, text) in FIELDS.items():
    text = f"of a .pt file: {text} (default: config.json beside it, or the published model's)"
    PT.add_argument(flag, dest=field, type=cli.positive, metavar="N", help=text)


def pt_options(arguments):
    """What `load_encoder` and `convert` take for a .pt file."""
    given = {field: value for field, value in vars(arguments).items() if field in FIELDS and value}
    return dict(weights=arguments.weights, config=given)


def register(commands):
    parser = cli.add(commands, convert, PT)
    parser.add_argument("file", metavar="FILE.pt", help="of V-JEPA 2 or 2.1")
    parser.add_argument("folder", metavar="FOLDER", help="to be made")


def convert(arguments):
    """Encoder and predictor of a .pt file alone, as a folder of safetensors: a fifth of the size.

    V-JEPA 2 gets the layout of transformers.
    """
    from vjepa_utils.weights.models import convert as write

    config = write(arguments.file, arguments.folder, **pt_options(arguments)).config
    blocks = f"{config.num_hidden_layers} blocks of {config.hidden_size} channels"
    loads = f"load_encoder({arguments.folder!r}) loads it"
    print(f"{arguments.folder}: {blocks}, {config.encoder_key}; {loads}")
