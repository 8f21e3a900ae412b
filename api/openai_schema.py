"""The body of `/v1/completions`; our own parameters ride at top level."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.params import MOST, Sampling, unsupported

DEFAULT_MAX_TOKENS = 16

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
StopText = Annotated[str, Field(min_length=1, max_length=1000)]
TokenId = Annotated[int, Field(ge=0, le=MOST)]


class StreamOptions(BaseModel):
    model_config = _STRICT

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class CompletionRequest(Sampling):
    """OpenAI's completion request."""

    model: str | None = None
    prompt: str | list[str] | list[TokenId] | list[list[TokenId]] | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=MOST)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=5)
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    user: str | None = None

    def prompts(self) -> list[str | list[int] | None]:
        """One entry per prompt; null stands for a seed word."""
        prompt = self.prompt
        if not isinstance(prompt, list):
            return [prompt]
        if prompt and all(isinstance(entry, int) for entry in prompt):
            return [[entry for entry in prompt if isinstance(entry, int)]]
        return [entry for entry in prompt if not isinstance(entry, int)]

    def fields(self, model: str) -> dict[str, Any]:
        if self.suffix:
            raise unsupported("suffix", self.suffix, model, "null")
        fields = super().fields(model)
        fields["max_new_tokens"] = self.max_tokens or DEFAULT_MAX_TOKENS
        if self.stop:
            fields["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        if self.logprobs is not None:
            if self.logprobs:
                fields["top_n_tokens"] = self.logprobs
            if self.echo:
                fields["prefill_details"] = True
        return fields
