"""From a checked request to jobs: limits of the model and of the gateway, seeds, and costs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from api.errors import InvalidRequest
from api.params import MAX_SEED, Novelty, Sampling
from api.settings import Settings
from deploy.models_file import ModelEntry

Prompt = str | list[int] | None

# The protocol's own default; a model's card may say less.
_DEFAULT_NEW_TOKENS = 100
# A seed that was not asked for stays exact in a JavaScript number.
_RANDOM_SEED_BITS = 48
# Odd, so that the multiples of it meet every seed once before one comes again.
REDRAW_STRIDE = 0x1E3779B97F4A7C15


@dataclass(frozen=True)
class Plan:
    """What one request comes to. Sample j of a prompt gets seed + j, so a list answers as its parts would.

    A draw that replaces a text which would not do gets seed + k · `REDRAW_STRIDE` for k = 1, 2, …: far from the
    seeds that people count through, so that no other request gives the same text for it.
    `keep` of `samples` drawn per prompt are answered. `hold_back` says that the last token of a stream
    cannot be told before the end is known.
    """

    model: str
    prompts: tuple[Prompt, ...]
    fields: Mapping[str, Any]
    seeds: tuple[int, ...]
    samples: int
    keep: int
    new_tokens: int
    rank: str | None
    novelty: Novelty | None
    syllables: tuple[int, int] | None
    unique: bool
    session: str | None
    post_process: tuple[str, ...]
    hold_back: bool
    input_chars: int
    beams: int = 1  # a search is one draw, which gives all `keep` texts and takes so many rows

    def job_fields(self, prompt_index: int, sample: int) -> dict[str, Any]:
        again = max(0, sample - self.samples + 1)
        step = again * REDRAW_STRIDE if again else sample
        seed = (self.seeds[prompt_index] + step) % (MAX_SEED + 1)
        return {**self.fields, "prompt": self.prompts[prompt_index], "seed": seed}

    def cost(self, prompt_index: int) -> int:
        """Estimated tokens of one sample: the prompt's and the answer's."""
        return (prompt_tokens(self.prompts[prompt_index]) + self.new_tokens) * self.beams

    def with_prompts(self, prompts: tuple[Prompt, ...]) -> Plan:
        return replace(self, prompts=prompts)

    @property
    def rejects_copies(self) -> bool:
        return self.novelty is not None and self.novelty.mode == "reject"

    @property
    def selective(self) -> bool:
        """Whether a text can be dropped for another."""
        return self.unique or self.session is not None or self.rejects_copies or self.syllables is not None

    @property
    def needs_whole_answers(self) -> str | None:
        """The parameter that rules out a stream, if any."""
        if self.samples > self.keep:
            return "best_of"
        if self.unique:
            return "unique"
        if self.session is not None:
            return "session"
        if self.rejects_copies:
            return "novelty reject"
        if self.syllables is not None:
            return "syllables"
        if self.post_process:
            return "post_process"
        return None


def prompt_tokens(prompt: Prompt) -> int:
    """An estimate that needs no tokenizer: ids are exact, text counts three characters a token."""
    if prompt is None:
        return 1
    return len(prompt) if isinstance(prompt, list) else 1 + len(prompt) // 3


def plan(
    entry: ModelEntry,
    settings: Settings,
    params: Sampling,
    prompts: Sequence[Prompt],
    *,
    prompt_field: str,
    tokens_field: str,
    logprobs: bool,
    default_new_tokens: int | None = None,
) -> Plan:
    """Check `params` and `prompts` against all limits. Raises `InvalidRequest`."""
    if not prompts:
        raise InvalidRequest(f"{prompt_field} must hold at least one prompt; got []", field=prompt_field)
    if len(prompts) > settings.max_inputs:
        raise _over(prompt_field, f"{len(prompts)} prompts", f"at most {settings.max_inputs}")
    for prompt in prompts:
        if prompt is not None and len(prompt) > settings.max_input_chars:
            raise _over(prompt_field, f"{len(prompt)}", f"at most {settings.max_input_chars} long")
    keep = params.n or 1
    samples = params.best_of or keep
    for field, value in (("n", keep), ("best_of", samples)):
        if value > settings.max_samples:
            raise _over(field, str(value), f"at most {settings.max_samples}")
    if samples < keep:
        raise _over("best_of", str(samples), f"at least n ({keep})")

    fields = params.fields(entry.name)
    rank = params.rank or ("logprob" if samples > keep and params.num_beams in (None, 1) else None)
    if logprobs or rank is not None:
        fields["logprobs"] = True
    asked = fields.get("max_new_tokens")
    if asked is not None and asked > entry.max_new_tokens:
        raise _over(tokens_field, str(asked), f"at most {entry.max_new_tokens} for model {entry.name}")
    new_tokens = asked or min(default_new_tokens or _DEFAULT_NEW_TOKENS, entry.max_new_tokens)
    if (fewest := fields.get("min_new_tokens")) is not None and fewest > new_tokens:
        raise _over("min_new_tokens", str(fewest), f"at most {tokens_field} ({new_tokens})")
    searched = params.num_beams or 1
    total = sum(prompt_tokens(prompt) + new_tokens for prompt in prompts) * max(samples, searched)
    if total > settings.max_request_tokens:
        allowed = f"at most {settings.max_request_tokens} tokens in one request, prompts and samples together"
        raise _over(tokens_field, str(total), allowed)

    seeds = tuple(
        params.seed if params.seed is not None else secrets.randbits(_RANDOM_SEED_BITS) for _ in prompts
    )
    return Plan(
        model=entry.name,
        prompts=tuple(prompt or None for prompt in prompts),
        fields=fields,
        seeds=seeds,
        samples=samples,
        keep=keep,
        new_tokens=new_tokens,
        rank=rank,
        novelty=params.novelty_rule(),
        syllables=params.syllable_range(),
        unique=bool(params.unique),
        session=params.session,
        post_process=params.post_processes(),
        hold_back=bool(fields.get("stop")) or params.shaped() or asked is None,
        input_chars=sum(len(prompt) for prompt in prompts if prompt is not None),
        beams=searched,
    )


def _over(field: str, value: str, allowed: str) -> InvalidRequest:
    return InvalidRequest(f"{field} must be {allowed}; got {value}", field=field)
