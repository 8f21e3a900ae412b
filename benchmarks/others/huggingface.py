"""`generate` of transformers, as a stock TorchServe handler calls it: all rows together to their common end."""

from __future__ import annotations

import torch

from inkwell.models.gpt import GPTModel
from others import Generator, Setting


def float32(model: GPTModel) -> Generator:
    return _generator(model, torch.float32)


def bfloat16(model: GPTModel) -> Generator:
    return _generator(model, torch.bfloat16)


def _generator(model: GPTModel, kind: torch.dtype) -> Generator:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    shape = model.config
    config = GPTNeoXConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.rate * shape.width,
        hidden_act=shape.activation,
        max_position_embeddings=shape.window,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        use_parallel_residual=False,
        layer_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    theirs = GPTNeoXForCausalLM(config).eval()
    theirs.load_state_dict(_weights(model), strict=True)
    theirs = theirs.to(kind)

    @torch.no_grad()
    def generate(rows: int, tokens: int, setting: Setting) -> list[list[int]]:
        drawn = {"do_sample": True, "temperature": setting.temperature, "top_k": setting.top_k}
        ids = theirs.generate(
            torch.ones(rows, 1, dtype=torch.long),
            attention_mask=torch.ones(rows, 1, dtype=torch.long),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            **(drawn if setting.temperature else {"do_sample": False}),
        )
        return [list(map(int, row)) for row in ids[:, 1:]]

    return generate


def _weights(model: GPTModel) -> dict[str, torch.Tensor]:
    """Our parameters under their names; queries, keys and values stand together per head there."""
    own = model.state_dict()
    shape = model.config
    found = {
        "gpt_neox.embed_in.weight": own["embedding.weight"],
        "lm_head.weight": own["head.weight"],
        "gpt_neox.final_layer_norm.weight": own["norm.weight"],
        "gpt_neox.final_layer_norm.bias": own["norm.bias"],
    }
    names = {
        "norm_attention": "input_layernorm",
        "norm_feed": "post_attention_layernorm",
        "qkv": "attention.query_key_value",
        "proj": "attention.dense",
        "up": "mlp.dense_h_to_4h",
        "down": "mlp.dense_4h_to_h",
    }
    for layer in range(shape.layers):
        for ours, theirs in names.items():
            for part in ("weight", "bias"):
                value = own[f"blocks.{layer}.{ours}.{part}"]
                if ours == "qkv":
                    per_head = value.unflatten(0, (3, shape.heads, shape.head_width)).transpose(0, 1)
                    value = per_head.flatten(0, 2)
                found[f"gpt_neox.layers.{layer}.{theirs}.{part}"] = value
    return found
