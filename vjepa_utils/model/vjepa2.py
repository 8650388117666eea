"""The V-JEPA 2 model with true positions: transformers' weights under transformers' names, its
forward pass written anew.

The transformers port derives positions from the training square whatever the input, so on any other
grid each token gets a wrong one, without an error. Here positions are an argument, hidden tokens
are dropped before the first layer, and blocks work in place (`benchmarks/encoder_speed.py`).
"""

import torch
import torch.nn.functional as F
from torch import nn

from vjepa_utils.checks import UserError
from vjepa_utils.model.attention import attend
from vjepa_utils.model.positions import even_channels_first, grid_positions, rotary_tables


class RotaryAttention(nn.Module):
    """Self-attention whose queries and keys are rotated by the position of their token. Their
    channels are stored even ones first within each head: products do not change, and the rotation
    of neighbours becomes a swap of two halves.
    """

    def __init__(self, width, heads, qkv_bias):
        super().__init__()
        self.heads, self.head_size = heads, width // heads
        self.query = nn.Linear(width, width, qkv_bias)
        self.key = nn.Linear(width, width, qkv_bias)
        self.value = nn.Linear(width, width, qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x, tables):
        q, k = (self._rotated(self._heads(linear(x)), *tables) for linear in (self.query, self.key))
        v = self._heads(self.value(x))
        x = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(x.transpose(1, 2).flatten(2))

    def _heads(self, x):
        return x.unflatten(-1, (self.heads, self.head_size))  # (batch, tokens, heads, channels)

    def _rotated(self, x, cos, sin):
        half = self.head_size // 2
        rotated = x * cos
        rotated[..., :half].addcmul_(x[..., half:], sin[..., :half])
        rotated[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return rotated


class Block(nn.Module):
    """One layer. Without gradients it overwrites its input (batch, tokens, channels)."""

    def __init__(self, width, heads, mlp_ratio, config):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, config.layer_norm_eps) for _ in range(2))
        self.attention = RotaryAttention(width, heads, config.qkv_bias)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x, tables):
        training = torch.is_grad_enabled()
        add = torch.add if training else torch.Tensor.add_
        gelu = F.gelu if training else torch.ops.aten.gelu_  # the widest tensor, only once
        x = add(x, self.attention(self.norm1(x), tables))
        return add(x, self.mlp.fc2(gelu(self.mlp.fc1(self.norm2(x)))))


class Transformer(nn.Module):
    """What encoder and predictor share: embeddings, blocks and a final norm. Sizes are the fields
    of a configuration that begin with the prefix.
    """

    def __init__(self, config, prefix, embeddings):
        super().__init__()
        size = lambda name: getattr(config, prefix + name)
        width, depth = size("hidden_size"), size("num_hidden_layers")
        block = width, size("num_attention_heads"), size("mlp_ratio"), config
        self.embeddings = nn.ModuleDict(embeddings)
        self.layer = nn.ModuleList(Block(*block) for _ in range(depth))
        self.layernorm = nn.LayerNorm(width, config.layer_norm_eps)

    def tables(self, positions, dtype, interleaved):
        """Rotations for all blocks; positions (batch or none, tokens, 3)."""
        return rotary_tables(positions, self.layer[0].attention.head_size, dtype, interleaved)


class VJEPA2(nn.Module):
    """Encoder and predictor, without weights until `take_weights`: for `encode_layers` and
    `predict_tokens`. config: a transformers `VJEPA2Config`.
    """

    interleaved = False  # frequencies of the rotation: see `rotary_tables`
    predictor_layer = None  # the `layer` of the encoder that the predictor reads and predicts

    def __init__(self, config):
        super().__init__()
        if config.hidden_act != "gelu":
            raise UserError(f"its activation is {config.hidden_act!r}, and only gelu is known")
        self.config = config
        width, narrow = config.hidden_size, config.pred_hidden_size
        tubelet = config.tubelet_size, config.patch_size, config.patch_size
        with torch.device("meta"):
            patches = nn.ModuleDict({"proj": nn.Conv3d(config.in_chans, width, tubelet, tubelet)})
            self.encoder = Transformer(config, "", {"patch_embeddings": patches})
            narrower = {"predictor_embeddings": nn.Linear(width, narrow)}
            self.predictor = Transformer(config, "pred_", narrower)
            mask_tokens = torch.zeros(config.pred_num_mask_tokens, 1, 1, narrow)
            self.predictor.embeddings.mask_tokens = nn.Parameter(mask_tokens)
            self.predictor.proj = nn.Linear(narrow, width)

    def patch_embedding(self, frames):
        """Weight (channels, 3, tubelet, patch, patch) and bias of the map from tubelets to tokens,
        for contexts of so many frames.
        """
        proj = self.encoder.embeddings.patch_embeddings.proj
        return proj.weight, proj.bias

    def positions(self, grid, device=None, shift=(0, 0)):
        """(step, row, column) of each token: (tokens, 3); shift as in `grid_positions`."""
        return grid_positions(grid, device, shift)

    def outputs(self, layer):
        """What a layer is: [(number of a block, the norm after it or None), …], to be joined."""
        if layer is None:
            return [(len(self.encoder.layer), self.encoder.layernorm)]
        return [(layer, None)]

    @property
    def device(self):
        return next(self.parameters()).device

    @property
    def dtype(self):
        return next(self.parameters()).dtype

    def take_weights(self, weights):
        """Take {name: tensor} as transformers' `VJEPA2Model` has them; returns the model."""
        self.load_state_dict(self._reordered(weights, even_channels_first), assign=True)
        return self

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights as a transformers `VJEPA2Model` has them."""
        return self._reordered(self.state_dict(), lambda *of: even_channels_first(*of).argsort())

    def _reordered(self, weights, order):
        """Weights with the channels of queries and keys in another order."""
        weights = dict(weights)
        for name, module in self.named_modules():
            if isinstance(module, RotaryAttention):
                channels = order(module.heads, module.head_size)
                for part in module.state_dict():
                    if part.startswith(("query.", "key.")):
                        weight = weights[f"{name}.{part}"]
                        weights[f"{name}.{part}"] = weight[channels.to(weight.device)]
        return weights


def _tubelets(pixels, depth, height, width):
    """(batch, frames, 3, H, W) to (batch, tokens, 3 * depth * height * width), and the grid."""
    x = pixels.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(1, (-1, depth))
    x = x.permute(0, 1, 4, 6, 3, 2, 5, 7)  # (batch, steps, rows, columns, 3, depth, height, width)
    return x.flatten(4).flatten(1, 3), x.shape[1:4]


def encode_tokens(model, pixels, visible=None, layer=None, positions=None) -> torch.Tensor:
    """`encode_layers` of one layer: (batch, tokens or n, channels)."""
    return encode_layers(model, pixels, [layer], positions=positions, visible=visible)[0]


def encode_layers(
    model: VJEPA2, pixels, layers, shift=(0, 0), positions=None, visible=None
) -> list[torch.Tensor]:
    """The encoder, with the true grid; hidden tokens are dropped before its first layer.

    Args:
        pixels: (batch, frames, 3, height, width), normalised; frames even, or in V-JEPA 2.1 one,
            for the image branch; sides multiples of the patch.
        layers: None for the output of the final norm; k in 1…depth for that of block k, before the
            norm; more in V-JEPA 2.1, see `VJEPA21`.
        shift: of the picture under the grid, down and right, in patches.
        positions: None for those of `model.positions`, or others, (tokens of the grid, 3).
        visible: None for all tokens, or (batch or 1, n) token numbers in step, row, column order.
    Returns:
        For each layer, from one forward pass, (batch, tokens or n, channels).
    """
    blocks = model.encoder.layer
    # a 3D convolution whose stride is its kernel: a linear map
    weight, bias = model.patch_embedding(pixels.shape[1])
    x, grid = _tubelets(pixels.to(weight.dtype), *weight.shape[2:])
    positions = model.positions(grid, x.device, shift) if positions is None else positions
    positions = positions.to(x.device)
    if visible is not None:
        x, positions = torch.take_along_dim(x, visible.unsqueeze(-1), 1), positions[visible]
    x = F.linear(x, weight.flatten(1), bias)  # (batch, tokens, channels)
    tables = model.encoder.tables(positions, x.dtype, model.interleaved)
    outputs, read = [model.outputs(layer) for layer in layers], {}
    last = max(number for output in outputs for number, _ in output)
    for number, block in enumerate(blocks[:last], 1):
        x = block(x, tables)
        for norm in {norm for output in outputs for after, norm in output if after == number}:
            read[number, norm] = norm(x) if norm else x.clone()  # the next block overwrites x
    joined = [[read[point] for point in output] for output in outputs]
    return [torch.cat(parts, -1) if len(parts) > 1 else parts[0] for parts in joined]


def predict_tokens(
    model, context, visible, hidden, grid, mask_token=0, image=False, positions=None, of="hidden"
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
