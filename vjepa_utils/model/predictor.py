"""The predictor: features of hidden tokens from those of the visible ones."""

import torch

from vjepa_utils.model.vjepa2 import VJEPA2


def predict_tokens(
    model: VJEPA2,
    context: torch.Tensor,
    visible: torch.Tensor,
    hidden: torch.Tensor,
    grid: tuple[int, int, int],
    mask_token: int = 0,
    image: bool = False,
    positions: torch.Tensor | None = None,
    of: str = "hidden",
) -> torch.Tensor:
    """Features of the hidden tokens from those of the visible ones, with the true grid.

    Args:
        context: (batch, n visible, channels), `encode_tokens` of the visible tokens only, at
            `model.predictor_layer`.
        visible, hidden: (batch or 1, n) token numbers.
        grid: (steps, rows, columns).
        mask_token: which of the checkpoint's mask tokens stands for a hidden token.
        image: V-JEPA 2.1 only: the tokens are of the image branch.
        positions: None for those of `model.positions`, or others, (tokens of the grid, 3).
        of: "hidden", or in V-JEPA 2.1 "visible", for the prediction of the visible tokens.
    Returns:
        (batch, n hidden, channels) in the order of `hidden`. It approximates the features of the
        whole clip after a layer norm without scale or shift, not the encoder's output itself.
    """
    predictor, embeddings = model.predictor, model.predictor.embeddings
    x = embeddings.predictor_embeddings(context)
    token = embeddings.mask_tokens[mask_token].to(x.dtype)  # (1, 1, channels)
    x = torch.cat([x, token.expand(len(x), hidden.shape[1], -1)], 1)
    if hasattr(embeddings, "image_modality"):  # V-JEPA 2.1
        x = x + (embeddings.image_modality if image else embeddings.video_modality)
    positions = model.positions(grid, x.device) if positions is None else positions.to(x.device)
    positions = positions[torch.cat([visible, hidden], 1)]  # (batch or 1, tokens, 3)
    tables = predictor.tables(positions, x.dtype, model.interleaved)
    for block in predictor.layer:
        x = block(x, tables)
    x = predictor.layernorm(x)
    if of == "visible":
        return predictor.visible_proj(x[:, : visible.shape[1]])
    return predictor.proj(x[:, visible.shape[1] :])
