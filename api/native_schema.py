"""The body of the native routes: text-generation-inference's request and our parameters beside it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.params import MOST, Grammar, Sampling, unsupported

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


StopText = Annotated[str, Field(min_length=1, max_length=1000)]


class Parameters(Sampling):
    """`parameters` of a native request."""

    do_sample: bool | None = None
    max_new_tokens: int | None = Field(default=None, ge=1, le=MOST)
    stop: list[Annotated[str, Field(min_length=1, max_length=1000)]] | None = Field(
        default=None, max_length=16
    )
    return_full_text: bool | None = None
    truncate: int | None = Field(
        default=None, ge=1, le=MOST, description="keep only the last tokens of the prompt"
    )
    details: bool | None = None
    decoder_input_details: bool | None = None
    top_n_tokens: int | None = Field(default=None, ge=0, le=20)
    grammar: Grammar | None = None
    watermark: bool | None = None
    adapter_id: str | None = None

    def fields(self, model: str) -> dict[str, Any]:
        if self.watermark:
            raise unsupported("watermark", True, model, "false")
        if self.adapter_id:
            raise unsupported("adapter_id", self.adapter_id, model, "null")
        fields = super().fields(model)
        if self.grammar is not None:
            if self.grammar.type != "regex" or not isinstance(self.grammar.value, str):
                raise unsupported("grammar", self.grammar.type, model, "type regex")
            fields["regex"] = self.grammar.value
        for name in ("max_new_tokens", "stop", "top_n_tokens"):
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        if self.decoder_input_details:
            fields["prefill_details"] = True
        if self.do_sample is False and not self._asks_for_sampling():
            fields["temperature"] = 0
        return fields

    def shaped(self) -> bool:
        return self.grammar is not None or super().shaped()

    def _asks_for_sampling(self) -> bool:
        # As text-generation-inference: its own client always sends do_sample=false.
        chosen = (self.temperature, self.top_k, self.top_p, self.typical_p, self.min_p)
        return any(value is not None for value in chosen)


class GenerateRequest(BaseModel):
    """`inputs` is a prompt or a list of prompts; none means a seed word of the model's own corpus."""

    model_config = _STRICT

    inputs: str | list[str] | None = None
    parameters: Parameters | None = None
    model: str | None = None
    stream: bool | None = None

    def settings(self) -> Parameters:
        return self.parameters or Parameters.model_validate({})


class TokenizeRequest(BaseModel):
    """The text to be split into the model's tokens."""

    model_config = _STRICT

    inputs: str
    model: str | None = None
