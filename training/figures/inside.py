"""A model read token by token with its inner values kept: what every figure looks at.

Families differ in where their hidden state is and in what a token is turned into; both differences end here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from inkwell.bundle import Bundle
from inkwell.models import LanguageModel
from inkwell.models.gpt import GPTModel
from inkwell.models.recurrent import RecurrentModel
from inkwell.models.window import WindowModel
from inkwell.session import TextEngine, final_event
from inkwell.tokenizer import END_ID
from training.errors import UserError
from training.figures.album import visible


@dataclass(frozen=True)
class Reading:
    """One text as the model saw it. `ids` (T,), the last `start` … of which the model wrote itself; `hidden`
    (T, U), the values the output layer reads; `logits` (T, V), what each position expects next."""

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    hidden: Tensor
    logits: Tensor

    @property
    def entropy(self) -> Tensor:
        """Doubt about the next token in nats, (T,)."""
        logs = self.logits.double().log_softmax(-1)
        return -(logs.exp() * logs).sum(-1).float()

    @property
    def surprise(self) -> Tensor:
        """Nats that each token cost, given those before it, (T − 1,)."""
        logs = self.logits[:-1].double().log_softmax(-1)
        return -logs.gather(1, torch.tensor(self.ids[1:])[:, None])[:, 0].float()


def read(bundle: Bundle, ids: Sequence[int], category: int = 0) -> Reading:
    """Run the model over `ids`, which begin with what precedes every text."""
    kept: list[Tensor] = []
    hook = _last_layer(bundle.model).register_forward_pre_hook(
        lambda _module, inputs: kept.append(inputs[0].detach().float())
    )
    try:
        with torch.no_grad():
            output = bundle.model(torch.tensor([list(ids)]), condition=condition_of(bundle.model, category))
    finally:
        hook.remove()
    hidden = kept[0].reshape(len(ids), -1)
    return Reading(tuple(ids), labels_of(bundle, ids), hidden, output.logits[0].float())


def condition_of(model: LanguageModel, category: int) -> Tensor | None:
    """The category as `forward` takes it; None for a model that has none."""
    config: Any = model.config
    return torch.tensor([category]) if getattr(config, "categories", 0) else None


def write(bundle: Bundle, prompt: str, tokens: int, seed: int, **options: Any) -> tuple[list[int], str, int]:
    """Let the model continue `prompt` (its own seed word when empty). Ids from the very start on, prompt and
    continuation as text, and the index of the category that was asked for (0: none)."""
    engine = TextEngine(bundle, slots=1)
    job: dict[str, Any] = {"prompt": prompt, "seed": seed, "logprobs": True, **options}
    job["max_new_tokens"] = min(tokens, bundle.limits.max_new_tokens)
    category = 0
    if bundle.categories:
        category = seed % len(bundle.categories) + 1
        job.setdefault("category", bundle.categories[category - 1])
    made: list[int] = []
    events = []
    for event in engine.generate(job):
        events.append(event)
        if event["event"] == "tokens":
            made.extend(event["ids"])
    answer = final_event(iter(events))
    opening = bundle.tokenizer.encode(bundle.config.start) or [END_ID]
    return [*opening, *answer["prompt_ids"], *made], answer["prompt"] + answer["text"], category


def labels_of(bundle: Bundle, ids: Sequence[int]) -> tuple[str, ...]:
    """Each token as it can be shown on an axis."""
    return tuple(visible(bundle.tokenizer.decode([token])) for token in ids)


def token_vectors(model: LanguageModel) -> tuple[Tensor, str]:
    """What each token is turned into, (V, E), and what that is called. One-hot models turn a token into a
    column of their first layer's weights."""
    embedding = getattr(model, "embedding", None)
    if isinstance(embedding, nn.Embedding):
        return embedding.weight.detach().float(), "embedding"
    if isinstance(model, RecurrentModel):
        first = cast(Tensor, model.layers[0].weight_ih_l0)
        return first.detach().float().t().contiguous(), "input weights"
    raise UserError(f"{type(model).__name__} has no vectors of its tokens")


def with_inputs(model: LanguageModel, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Call `run` (a forward pass over one row) with the token vectors open to gradients: its result, and the
    vectors (T, E) or, of a one-hot model, (T, V)."""
    kept: list[Tensor] = []

    def open_up(value: Tensor) -> Tensor:
        value = value.detach().requires_grad_()
        kept.append(value)
        return value

    embedding = getattr(model, "embedding", None)
    if isinstance(embedding, nn.Embedding):
        hook = embedding.register_forward_hook(lambda _module, _inputs, output: open_up(output))
    elif isinstance(model, RecurrentModel):
        hook = model.layers[0].register_forward_pre_hook(
            lambda _module, inputs: (open_up(inputs[0]), *inputs[1:])
        )
    else:
        raise UserError(f"{type(model).__name__} has no vectors of its tokens")
    try:
        result = run()
    finally:
        hook.remove()
    return result, kept[0]


def _last_layer(model: LanguageModel) -> nn.Module:
    if isinstance(model, (RecurrentModel, GPTModel, WindowModel)):
        return model.head
    raise UserError(f"no figure knows where {type(model).__name__} keeps its state")
