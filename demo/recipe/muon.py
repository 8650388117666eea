"""Muon: momentum whose update of each weight matrix is made orthogonal (Jordan et al. 2024).

`torch.optim.Muon` computes in bfloat16, which is twenty times slower than float32 on a CPU without
bf16 units; here it is float32, and matrices of one shape are updated together.
"""

import torch

A, B, C = 3.4445, -4.7750, 2.0315  # of the quintic Newton-Schulz iteration; as torch.optim.Muon
ITERATIONS = 5
MOMENTUM = 0.95


def orthogonalised(x):
    """Matrices (n, rows, columns), rows ≤ columns, with singular values near 1 (0.7 to 1.2)."""
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Weight matrices alone. Updates have the root mean square of AdamW's, so that one learning
    rate serves both (Liu et al. 2025, arXiv 2502.16982).
    """

    def __init__(self, matrices, lr=1e-3, weight_decay=0.0):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - MOMENTUM)
                update = matrix.grad.lerp(mean, MOMENTUM)  # Nesterov
                wide = update if update.shape[0] <= update.shape[1] else update.mT
                shapes.setdefault(wide.shape, []).append((matrix, wide))
            for shape, found in shapes.items():
                updates = orthogonalised(torch.stack([update for _, update in found]))
                for (matrix, _), update in zip(found, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    update = update if matrix.shape == shape else update.mT
                    matrix.add_(update, alpha=-0.2 * max(shape) ** 0.5 * group["lr"])
