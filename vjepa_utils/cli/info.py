import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.cli.convert import PT, pt_options


def register(commands):
    parser = cli.add(commands, info, PT, cli.frames(), cli.size(), cli.context())
    parser.add_argument("name", metavar="NAME", help=cli.NAMES)
    parser.add_argument("--video", help="a clip: what it costs in tokens and memory")


def info(arguments):
    """What a checkpoint is, what it was trained on, and what a clip of yours costs with it."""
    encoder = vj.load_encoder(arguments.name, **pt_options(arguments))
    lines = _model(encoder) | _training(encoder)
    lines["runs on"] = f"{encoder.device} in {str(encoder.dtype).split('.')[1]}"
    if arguments.video:
        video = vj.read_video(arguments.video, **cli.sampling(arguments))
        lines |= _costs(encoder, video, arguments.context, arguments.size)
    print(encoder.name)
    for title, text in lines.items():
        print(f"  {title:13}{text}")


def _model(encoder):
    model, config, patch = encoder.model, encoder.model.config, encoder.patch_size
    millions = lambda part: sum(p.numel() for p in part.parameters()) / 1e6 if part else 0
    predictor = getattr(model, "predictor", None)
    lines = {
        "encoder": f"{millions(model) - millions(predictor):.1f} M parameters: {encoder.depth} "
        f"blocks, {encoder.channels} channels, {config.num_attention_heads} heads; a token is "
        f"{patch}×{patch} pixels of {encoder.tubelet_size} frame(s)"
    }
    if predictor:
        norms = predictor.embeddings.mask_tokens.float().flatten(1).norm(dim=1).tolist()
        size = f"{config.pred_num_hidden_layers} blocks, {config.pred_hidden_size} channels"
        size += f", {config.pred_num_attention_heads} heads"
        lines["predictor"] = f"{millions(predictor):.1f} M parameters: {size}"
        lines["mask tokens"] = f"{len(norms)}, of norm {' '.join(f'{norm:.3g}' for norm in norms)}"
    if "VJEPA2ForVideoClassification" in (getattr(config, "architectures", None) or []):
        lines["head"] = f"{config.num_labels} classes, for classify"
    return lines


def _training(encoder):
    from vjepa_utils.weights.regime import MASKS, regime_of

    regime, lines = regime_of(encoder.name), {}
    key = getattr(encoder.model.config, "encoder_key", None) or (regime and regime.key)
    if encoder.training_size:
        lines["trained on"] = f"squares of {encoder.training_size} pixels"
    if regime and regime.frames:
        frames = " and then ".join(map(str, regime.frames))
        lines["trained on"] += f", {frames} frames, {regime.rate:g} a second; {MASKS}"
    if key:
        kind = "online" if key == "encoder" else "moving average"
        lines["weights"] = f"{key} of the training checkpoint, {kind}"
    return lines | {"licence": regime.licence if regime else "not known here"}


def _costs(encoder, video, context, size):
    from vjepa_utils.model.devices import free_memory

    free, (steps, rows, columns) = free_memory(encoder.device), encoder.grid(video, size, context)
    lines = {"clip": f"{len(video)} frames: {steps} steps of {rows}×{columns} patches"}
    # an image encoder encodes no frames jointly
    for each in (context, "clip") if encoder.training_size else (context,):
        plan = encoder.plan(video, each, size)
        needed = f"{encoder.memory(plan) / 2**30:.2f} of {free / 2**30:.1f} GiB"
        lines[f"{plan.context} frame(s)"] = f"jointly: {plan.tokens:,} tokens, about {needed}"
    return lines
