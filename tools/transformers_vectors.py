"""Record what Hugging Face transformers' own sparse blocks compute: small checkpoints with random weights, and the
inputs and outputs of their sparse layers.

Runs in an environment of its own, which the testbed never imports (Python 3.11, CPU only; some 800 MB):

    python3.11 -m venv oracle-env && oracle-env/bin/pip install torch==2.13.0 transformers==5.23.0 numpy==2.4.6
    oracle-env/bin/python tools/transformers_vectors.py --out tests/data/transformers

writes for each family a folder with `config.json`, weights as `save_pretrained` lays them out (one file, or shards with
an index), and `vectors.safetensors` in float64. Of sparse layer I: `I.states` [n, d] in front of the norm, `I.x` behind
it, `I.routes` [n, k], `I.probabilities` [n, k] (what the experts' outputs are multiplied by), `I.routed` [n, d] the sum
over the selected experts, `I.output` [n, d] the whole sparse block with its residual. Of switch also the first encoder
block with a sparse layer, whole: `block.input`, `block.bias` [heads, n, n], `block.output`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file

TOKENS = 12
D = 16
EVERY = {"vocab_size": 8, "num_attention_heads": 4, "num_hidden_layers": 1}


@dataclass(frozen=True)
class Family:
    """model, config: classes; dtype: of the stored weights; shard: the largest file."""

    model: Any
    config: Any
    dtype: torch.dtype
    shard: str = "1MB"


FAMILIES = {
    "switch": Family(
        hf.SwitchTransformersForConditionalGeneration,
        hf.SwitchTransformersConfig(
            vocab_size=8,
            d_model=D,
            d_kv=4,
            d_ff=24,
            num_heads=4,
            num_experts=4,
            expert_capacity=TOKENS,
            num_layers=2,
            num_sparse_encoder_layers=1,
            num_decoder_layers=2,
            num_sparse_decoder_layers=1,
        ),
        torch.float32,
        "24KB",
    ),
    "mixtral": Family(
        hf.MixtralForCausalLM,
        hf.MixtralConfig(
            **EVERY,
            hidden_size=D,
            intermediate_size=24,
            num_key_value_heads=2,
            num_local_experts=4,
            num_experts_per_tok=2,
        ),
        torch.bfloat16,
        "4KB",
    ),
    "olmoe": Family(
        hf.OlmoeForCausalLM,
        hf.OlmoeConfig(
            **EVERY,
            hidden_size=D,
            intermediate_size=8,
            num_key_value_heads=4,
            num_experts=16,
            num_experts_per_tok=8,
            eos_token_id=1,
        ),
        torch.float16,
    ),
    "qwen2_moe": Family(
        hf.Qwen2MoeForCausalLM,
        hf.Qwen2MoeConfig(
            **EVERY,
            hidden_size=D,
            intermediate_size=24,
            moe_intermediate_size=8,
            shared_expert_intermediate_size=24,
            num_key_value_heads=4,
            num_experts=8,
            num_experts_per_tok=4,
        ),
        torch.float32,
    ),
}


def fill(model: Any, generator: torch.Generator) -> None:
    """Random weights of a scale that makes routes differ and experts matter: rows of norm near 1, gains near 1."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(1 + drawn / 8 if "norm" in name else drawn / value.shape[-1] ** 0.5)


def captured(module: Any, run: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """(positional arguments, named arguments, result) of the one call of `module` while `run` runs."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []

    def keep(_: Any, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
        calls.append((given, named, made))

    handle = module.register_forward_hook(keep, with_kwargs=True)
    run()
    handle.remove()
    (call,) = calls
    return call


def sparse_switch(layer: Any, states: torch.Tensor) -> dict[str, torch.Tensor]:
    x = layer.layer_norm(states)
    chosen, probability, _ = layer.mlp.router(x[None])
    assert bool((chosen.sum(-1) == 1).all())  # no token is dropped
    return {
        "x": x,
        "routes": chosen[0].argmax(-1, keepdim=True),
        "probabilities": probability[0],
        "routed": layer.mlp(x[None])[0],
        "output": layer(states[None])[0],
    }


def sparse_decoder(layer: Any, states: torch.Tensor) -> dict[str, torch.Tensor]:
    x = layer.post_attention_layernorm(states)
    _, probabilities, routes = layer.mlp.gate(x)
    return {
        "x": x,
        "routes": routes,
        "probabilities": probabilities,
        "routed": layer.mlp.experts(x, routes, probabilities),
        "output": states + layer.mlp(x[None])[0],
    }


def whole_block(model: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The encoder's first block with a sparse layer, in a run of the encoder."""
    embedded = torch.randn(1, TOKENS, D, generator=generator).double()
    block = model.encoder.block[1]
    attention = block.layer[0].SelfAttention

    def run() -> None:
        model.encoder(inputs_embeds=embedded)

    given, _, made = captured(block, run)
    _, named, _ = captured(attention, run)
    made = made[0] if isinstance(made, tuple) else made
    return {"block.input": given[0][0], "block.bias": named["position_bias"][0], "block.output": made[0]}


def record(name: str, folder: Path) -> None:
    """One family: its checkpoint and its vectors."""
    family = FAMILIES[name]
    generator = torch.Generator().manual_seed(sorted(FAMILIES).index(name) + 1)
    stored = family.model(family.config).eval()
    fill(stored, generator)
    stored.to(family.dtype).save_pretrained(folder, max_shard_size=family.shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model = stored.double()  # widening is exact
    if name == "switch":
        model.encoder.block[1].layer[1].mlp.router.dtype = torch.float64
        model.decoder.block[1].layer[2].mlp.router.dtype = torch.float64
        layers = [model.encoder.block[1].layer[1], model.decoder.block[1].layer[2]]
    else:
        model.set_experts_implementation("eager")  # the others know no float64
        layers = list(model.model.layers)
    vectors = {}
    with torch.no_grad():
        for i, layer in enumerate(layers):
            states = 2 * torch.randn(TOKENS, D, generator=generator).double()
            found = sparse_switch(layer, states) if name == "switch" else sparse_decoder(layer, states)
            vectors |= {f"{i}.{key}": value for key, value in ({"states": states} | found).items()}
        if name == "switch":
            vectors |= whole_block(model, generator)
    save_file({key: value.contiguous().clone() for key, value in vectors.items()}, folder / "vectors.safetensors")
    print(*(f"{path}: {path.stat().st_size} bytes" for path in sorted(folder.iterdir())), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    options = parser.parse_args()
    for name in FAMILIES:
        record(name, options.out / name)


if __name__ == "__main__":
    main()
