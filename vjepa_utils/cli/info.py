import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.cli.convert import PT, pt_options


def register(commands):
    parents = PT, cli.frames(), cli.size(), cli.context()
    parser = cli.add(commands, info, *parents)
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
    config, predictor = encoder.model.config, getattr(encoder.model, "predictor", None)
    count = lambda part: sum(p.numel() for p in part.parameters()) / 1e6 if part else 0
    lines = {
        "encoder": f"{count(encoder.model) - count(predictor):.1f} M parameters: {encoder.depth} "
        f"blocks, {encoder.channels} channels, {config.num_attention_heads} heads; a token is "
        f"{encoder.patch_size}×{encoder.patch_size} pixels of {encoder.tubelet_size} frame(s)"
    }
    if predictor:
        norms = predictor.embeddings.mask_tokens.float().flatten(1).norm(dim=1)
        lines["predictor"] = (
            f"{count(predictor):.1f} M parameters: {config.pred_num_hidden_layers} blocks, "
            f"{config.pred_hidden_size} channels, {config.pred_num_attention_heads} heads"
        )
        norms = " ".join(f"{norm:.3g}" for norm in norms.tolist())
        lines["mask tokens"] = f"{config.pred_num_mask_tokens}, of norm {norms}"
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

    free, plans = free_memory(encoder.device) / 2**30, [encoder.plan(video, context, size)]
    steps, rows, columns = plans[0].grid
    lines = {"clip": f"{len(video)} frames: {steps} steps of {rows}×{columns} patches"}
    if encoder.training_size:  # an image encoder encodes no frames jointly
        plans.append(encoder.plan(video, "clip", size))
    for plan in plans:
        needed = f"{encoder.memory(plan) / 2**30:.2f} of {free:.1f} GiB"
        lines[f"{plan.context} frame(s)"] = f"jointly: {plan.tokens:,} tokens, about {needed}"
    return lines
