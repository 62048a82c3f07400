"""The encoder of protocols.model.architecture once more in torch, for gradients: same parameter names, whole "
"batches, all experts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from protocols.model.architecture import NORM_EPSILON, parameter_shapes
from protocols.model.config import ModelConfig

Tensor = Any  # torch is an optional extra: without it the checker knows no more


def initial(config: ModelConfig, generator: Any) -> dict[str, Tensor]:
    """Parameters before training: ones and zeros for norms and biases, else normal with variance 1 / fan-in."""
    parameters = {}
    for name, shape in parameter_shapes(config).items():
        if len(shape) == 1:
            value = torch.full(shape, 1.0 if name.endswith("weight") else 0.0)
        else:
            scale = 0.5 if name in ("embedding", "position") else 1.0 / math.sqrt(shape[-1])
            value = torch.randn(shape, generator=generator) * scale
        parameters[name] = value.requires_grad_()
    return parameters


def forward(
    parameters: Mapping[str, Tensor], config: ModelConfig, tokens: Tensor, real: Tensor, dropout: float
) -> tuple[Tensor, Tensor]:
    """(logits [batch, classes], load-balancing loss, 1 when balanced [Switch]). tokens: ids [batch, n] or patches
    [batch, n, p]; real [batch, n] bool."""
    table, n = parameters["embedding"], tokens.shape[1]
    x = (table[tokens] if config.task == "text" else tokens @ table) + parameters["position"][:n]
    x = functional.dropout(x, dropout, training=dropout > 0)
    balance = torch.zeros(())
    for i in range(config.layers):
        own = f"layers.{i}."
        x = x + functional.dropout(
            _attention(parameters, own, config, _norm(parameters, own + "norm1", x), real), dropout
        )
        mixed, loss = _moe(parameters, own, config, _norm(parameters, own + "norm2", x), real)
        x = x + functional.dropout(mixed, dropout)
        balance = balance + loss / config.layers
    x = _norm(parameters, "final_norm", x) * real[..., None]
    pooled = x.sum(dim=1) / real.sum(dim=1, keepdim=True)
    return pooled @ parameters["head.weight"].T + parameters["head.bias"], balance


def _norm(parameters: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    width = (x.shape[-1],)
    return functional.layer_norm(x, width, parameters[name + ".weight"], parameters[name + ".bias"], NORM_EPSILON)


def _attention(parameters: Mapping[str, Tensor], own: str, config: ModelConfig, x: Tensor, real: Tensor) -> Tensor:
    batch, n, d = x.shape
    q, k, v = (
        (x @ parameters[f"{own}attention.{name}"].T).reshape(batch, n, config.heads, -1).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    scores = (q @ k.transpose(2, 3) / math.sqrt(d // config.heads)).masked_fill(~real[:, None, None, :], -torch.inf)
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, n, d) @ parameters[own + "attention.output"].T


def _moe(
    parameters: Mapping[str, Tensor], own: str, config: ModelConfig, x: Tensor, real: Tensor
) -> tuple[Tensor, Tensor]:
    p = (x @ parameters[own + "router"].T).softmax(dim=-1)
    best, route = p.max(dim=-1)
    chosen = functional.one_hot(route, config.E).to(p.dtype)
    load, mass = chosen[real].mean(dim=0), p[real].mean(dim=0)
    h = functional.gelu(torch.einsum("bnd,efd->bnef", x, parameters[own + "w1"]))
    h = h * torch.einsum("bnd,efd->bnef", x, parameters[own + "v"]) * (chosen * best[..., None])[..., None]
    return torch.einsum("bnef,edf->bnd", h, parameters[own + "w2"]), config.E * (load * mass).sum()
