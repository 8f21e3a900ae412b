"""llama.cpp's server with 8-bit weights (q8_0), in this process and asked over HTTP: a slot for each text."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import torch

from inkwell.models.gpt import GPTModel
from others import Generator, Setting

SLOTS = 64


def q8_0(model: GPTModel) -> Generator:
    import gguf  # noqa: F401  said to be missing now, and not after the server has been set up
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * model.config.window
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    params.warmup, params.verbosity, params.port = False, 0, 0
    with tempfile.TemporaryDirectory(prefix="inkwell-bench-") as folder:
        path = Path(folder, "model.gguf")
        write(model, path)
        params.model.path = str(path)
        with quiet():
            server = xllamacpp.Server(params)
    address = server.listening_address

    async def one(session: aiohttp.ClientSession, tokens: int, setting: Setting) -> list[int]:
        body = {
            "prompt": [1],
            "n_predict": tokens,
            "ignore_eos": True,
            "temperature": setting.temperature,
            "top_k": setting.top_k if setting.temperature else 1,
            "samplers": ["top_k", "temperature"],
            "cache_prompt": False,
            "return_tokens": True,
        }
        async with session.post(f"{server.listening_address}/completion", json=body) as response:
            answer = await response.json()
            if response.status != 200:
                raise RuntimeError(f"{address} answered {response.status}: {answer!r:.200}")
            return list(answer["tokens"])

    async def many(rows: int, tokens: int, setting: Setting) -> list[list[int]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return await asyncio.gather(*(one(session, tokens, setting) for _ in range(rows)))

    def generate(rows: int, tokens: int, setting: Setting) -> list[list[int]]:
        return asyncio.run(many(rows, tokens, setting))

    return generate


def write(model: GPTModel, path: Path) -> None:
    """The model as a GGUF file of the architecture gptneox, matrices in q8_0."""
    import gguf

    shape = model.config
    writer = gguf.GGUFWriter(path, "gptneox")
    writer.add_context_length(shape.window)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.rate * shape.width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_head_count(shape.heads)
    writer.add_parallel_residual(False)
    writer.add_layer_norm_eps(1e-5)
    _vocabulary(writer, shape.vocabulary)
    names = {
        "norm_attention": "attn_norm",
        "norm_feed": "ffn_norm",
        "qkv": "attn_qkv",
        "proj": "attn_output",
        "up": "ffn_up",
        "down": "ffn_down",
    }
    tensors = {"embedding.weight": "token_embd.weight", "head.weight": "output.weight"}
    tensors |= {f"norm.{part}": f"output_norm.{part}" for part in ("weight", "bias")}
    for layer in range(shape.layers):
        for ours, theirs in names.items():
            for part in ("weight", "bias"):
                tensors[f"blocks.{layer}.{ours}.{part}"] = f"blk.{layer}.{theirs}.{part}"
    own = model.state_dict()
    for ours, theirs in tensors.items():
        value = own[ours].to(torch.float32).contiguous().numpy()
        if value.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(theirs, gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(theirs, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary(writer: Any, size: int) -> None:
    """Made-up words, since a server wants some: the end mark, all bytes where there is room, the rest by number."""
    import gguf

    kinds = gguf.TokenType
    words, types = ["<|end|>", "<unk>"], [kinds.CONTROL, kinds.UNKNOWN]
    if size >= 512:
        words += [f"<0x{byte:02X}>" for byte in range(256)]
        types += [kinds.BYTE] * 256
    types += [kinds.NORMAL] * (size - len(words))
    words += [f"t{index}" for index in range(len(words), size)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([-float(index) for index in range(size)])
    writer.add_token_types(types)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_add_bos_token(False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the library says of each tensor it loads goes nowhere: it writes to the process's own stderr."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
