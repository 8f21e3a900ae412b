"""CTranslate2 in int8: one activation scale per row, all rows together, to the end of the longest."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch

from inkwell.models.gpt import GPTModel
from others import Generator, Setting


def int8(model: GPTModel) -> Generator:
    import ctranslate2
    from ctranslate2.specs import TransformerDecoderModelSpec, common_spec

    shape = model.config
    # Copies: `optimize` changes weights in place.
    own = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    if shape.activation != "gelu":
        raise ValueError(f"activation is {shape.activation!r}; only 'gelu' is taken over")

    def put(spec: Any, name: str, norm: bool = False) -> None:
        if norm:
            spec.gamma, spec.beta = own[f"{name}.weight"], own[f"{name}.bias"]
        else:
            spec.weight, spec.bias = own[f"{name}.weight"], own[f"{name}.bias"]

    spec = TransformerDecoderModelSpec.from_config(
        shape.layers,
        shape.heads,
        pre_norm=True,
        activation=common_spec.Activation.GELU,
        rotary_dim=shape.head_width,
        rotary_interleave=False,
    )
    spec.decoder.scale_embeddings = False
    spec.decoder.embeddings.weight = own["embedding.weight"]
    spec.decoder.projection.weight = np.array(own["head.weight"])
    put(spec.decoder.layer_norm, "norm", norm=True)
    for index, layer in enumerate(spec.decoder.layer):
        put(layer.self_attention.layer_norm, f"blocks.{index}.norm_attention", norm=True)
        put(layer.self_attention.linear[0], f"blocks.{index}.qkv")
        put(layer.self_attention.linear[1], f"blocks.{index}.proj")
        put(layer.ffn.layer_norm, f"blocks.{index}.norm_feed", norm=True)
        put(layer.ffn.linear_0, f"blocks.{index}.up")
        put(layer.ffn.linear_1, f"blocks.{index}.down")
    words = [f"t{index}" for index in range(shape.vocabulary)]
    spec.register_vocabulary(words)
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = words[0]
    spec.validate()
    spec.optimize(quantization="int8")
    with tempfile.TemporaryDirectory(prefix="inkwell-bench-") as folder:
        spec.save(folder)
        theirs = ctranslate2.Generator(
            folder, device="cpu", compute_type="int8", intra_threads=torch.get_num_threads()
        )

    def generate(rows: int, tokens: int, setting: Setting) -> list[list[int]]:
        drawn = {"sampling_topk": setting.top_k, "sampling_temperature": setting.temperature}
        results = theirs.generate_batch(
            [[words[1]]] * rows,
            min_length=tokens,
            max_length=tokens,
            include_prompt_in_result=False,
            **(drawn if setting.temperature else {"sampling_topk": 1}),
        )
        return [list(result.sequences_ids[0]) for result in results]

    return generate
