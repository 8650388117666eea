"""What probes are made of, a pooler over the tokens and a linear layer, and how they are fitted.

Features of clips are x, float32 (clips, steps, places, channels); their classes y, int64 (clips,).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from tqdm.auto import tqdm
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

EPOCHS, BATCH, RATE, WEIGHT_DECAY = 30, 32, 1e-3, 3.0  # of the attentive probe
SEEN = 0.25  # share of the places shown in each training step; with all of them it soon overfits


class MeanPooler(nn.Module):
    """The mean over the places of each step, concatenated: (n, steps, places, channels) to (n,
    steps × channels).
    """

    def forward(self, x):
        return x.mean(2).flatten(1)


class AttentivePooler(VJEPA2AttentivePooler):
    """transformers' pooler over all tokens of all steps, standardised: (n, steps, places, channels)
    to (n, channels).
    """

    def __init__(self, channels):
        heads = channels // 64 if channels % 64 == 0 else 1
        config = VJEPA2Config(
            hidden_size=channels,
            num_attention_heads=heads,
            num_pooler_layers=0,
            attn_implementation="sdpa",
        )
        super().__init__(config)
        nn.init.trunc_normal_(self.query_tokens, std=config.initializer_range)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, x):
        return super().forward(((x - self.mean) / self.deviation).flatten(1, 2))


def fit_linear(module, x, y):
    means = module[0](x).numpy()
    scaler = StandardScaler().fit(means)
    regression = LogisticRegression(C=0.1, max_iter=2000).fit(scaler.transform(means), y.numpy())
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if len(weight) == 1:  # of two classes scikit-learn fits only the second
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    module[1].load_state_dict(
        {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    )


def fit_attentive(module, x, y):
    module[0].mean.copy_(x.mean((0, 1, 2)))
    module[0].deviation.copy_(x.std((0, 1, 2)).clamp_min(1e-6))
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=WEIGHT_DECAY)
    steps, places = EPOCHS * -(-len(x) // BATCH), x.shape[2]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.1
    )
    with tqdm(total=steps, desc="training the probe", delay=2, leave=False) as progress:
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(x)).split(BATCH):
                seen = x[chosen][:, :, torch.randperm(places)[: max(1, int(SEEN * places))]]
                loss = F.cross_entropy(module(seen), y[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                progress.update()
