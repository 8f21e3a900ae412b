"""Real clients, unmodified, over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import text_generation
import text_generation.errors
from huggingface_hub import InferenceClient
from huggingface_hub.errors import (
    GenerationError,
    OverloadedError,
    TextGenerationError,
)
from huggingface_hub.errors import (
    ValidationError as HubValidationError,
)

# text-generation 0.7 itself still calls pydantic's old method names.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")

PARAMETERS = {"seed": 4, "temperature": 0.7, "max_new_tokens": 14}


@pytest.fixture
def hub(base):
    return InferenceClient(base)


@pytest.fixture
def tgi(base):
    return text_generation.Client(base, timeout=20)


@pytest.fixture
def client(base):
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_hub_generates_text(hub, expected):
    assert hub.text_generation("abc", **PARAMETERS) == expected("abc", 4, 14)


def test_hub_reads_details(hub, expected):
    output = hub.text_generation("abc", details=True, decoder_input_details=True, **PARAMETERS)
    assert output.generated_text == expected("abc", 4, 14)
    assert output.details.finish_reason == "length"
    assert output.details.seed == 4
    assert len(output.details.tokens) == 14
    assert [token.text for token in output.details.prefill] == ["a", "b", "c"]


def test_hub_streams_text(hub, expected):
    assert "".join(hub.text_generation("abc", stream=True, **PARAMETERS)) == expected("abc", 4, 14)


def test_hub_streams_details(hub, expected):
    *_, last = hub.text_generation("abc", stream=True, details=True, **PARAMETERS)
    assert last.generated_text == expected("abc", 4, 14)
    assert last.details.generated_tokens == 14


def test_hub_reads_a_stop_sequence_and_full_text(hub, expected):
    whole = expected("abc", 4, 14)
    text = hub.text_generation("abc", stop=[whole[5:7]], return_full_text=True, **PARAMETERS)
    assert text == "abc" + whole[: whole.index(whole[5:7])]


def test_hub_sees_our_errors_as_their_kinds(hub):
    with pytest.raises(HubValidationError, match="top_p"):
        hub.text_generation("abc", top_p=7.0)
    with pytest.raises(HubValidationError, match="top_p"):
        list(hub.text_generation("abc", top_p=7.0, stream=True))
    with pytest.raises(GenerationError, match="this job failed"):
        hub.text_generation("explode")
    assert issubclass(HubValidationError, TextGenerationError)


def test_hub_sees_overload_as_such(serve, worker):
    base = serve(max_queue_tokens=20, starting_dispatches=1)
    worker.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        hub = InferenceClient(base)
        taken = [pool.submit(hub.text_generation, "abc", max_new_tokens=18) for _ in range(6)]
        done = next(answer for answer in _as_done(taken) if answer.exception())
        assert isinstance(done.exception(), OverloadedError)
        worker.gate.set()


def _as_done(futures):
    from concurrent.futures import as_completed

    return as_completed(futures, timeout=20)


def test_hub_reaches_a_model_by_its_base_url(base, worker):
    InferenceClient(f"{base}/m/names").text_generation("abc", max_new_tokens=5)
    with pytest.raises(HubValidationError, match="at most 64"):
        InferenceClient(f"{base}/m/names").text_generation("abc", max_new_tokens=65)


def test_tgi_client_generates(tgi, expected):
    response = tgi.generate("abc", decoder_input_details=True, **PARAMETERS)
    assert response.generated_text == expected("abc", 4, 14)
    assert response.details.finish_reason == "length"
    assert len(response.details.prefill) == 3


def test_tgi_client_draws_best_of(tgi):
    response = tgi.generate("abc", best_of=3, temperature=0.7, max_new_tokens=5)
    assert len(response.details.best_of_sequences) == 2


def test_tgi_client_streams(tgi, expected):
    *parts, last = tgi.generate_stream("abc", **PARAMETERS)
    assert "".join(part.token.text for part in [*parts, last]) == expected("abc", 4, 14)
    assert last.generated_text == expected("abc", 4, 14)
    assert last.details.finish_reason == "length"
    assert last.details.seed == 4


def test_tgi_client_sees_our_errors_as_their_kinds(tgi):
    with pytest.raises(text_generation.errors.ValidationError, match="max_new_tokens"):
        tgi.generate("abc", max_new_tokens=100_000)
    with pytest.raises(text_generation.errors.ValidationError, match="max_new_tokens"):
        list(tgi.generate_stream("abc", max_new_tokens=100_000))
    with pytest.raises(text_generation.errors.GenerationError):
        tgi.generate("explode")


def test_openai_completes(client, expected):
    completion = client.completions.create(
        model="prose", prompt=["a", "b"], n=2, seed=4, max_tokens=6, logprobs=2, echo=True
    )
    assert [choice.text for choice in completion.choices] == [
        prompt + expected(prompt, seed, 6) for prompt in "ab" for seed in (4, 5)
    ]
    assert completion.choices[0].logprobs.token_logprobs[0] is None
    assert completion.usage.completion_tokens == 24


def test_openai_streams(client, expected):
    stream = client.completions.create(
        model="names",
        prompt="abc",
        seed=4,
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"category": "elf", "top_k": 5},
    )
    text, usage = "", None
    for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].text
        usage = chunk.usage or usage
    assert text == expected("abc", 4, 20)
    assert usage.total_tokens == 23


def test_openai_lists_models(client):
    assert [model.id for model in client.models.list()] == ["prose", "names"]
    assert client.models.retrieve("names").id == "names"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("some/model")


def test_openai_sees_our_errors_as_their_kinds(client):
    with pytest.raises(openai.BadRequestError, match="temperature") as bad:
        client.completions.create(model="prose", prompt="a", temperature=-3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="gpt-5", prompt="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.InternalServerError):
        client.completions.create(model="prose", prompt="explode")


def test_openai_does_not_retry_a_permanent_failure(base, worker):
    patient = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=3)
    with patient as client, pytest.raises(openai.InternalServerError):
        client.completions.create(model="prose", prompt="explode")
    assert len(worker.posts) == 1


def test_openai_waits_as_told_when_the_queue_is_full(serve, worker, expected):
    base = serve(max_queue_tokens=20, starting_dispatches=1, deadline_s=20)
    worker.step_s = 0.002

    def ask(seed):
        with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=100) as client:
            made = client.completions.create(model="prose", prompt="abc", seed=seed, max_tokens=18)
            return made.choices[0].text

    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(ask, range(12)))
    assert texts == [expected("abc", seed, 18) for seed in range(12)]


def test_openai_sees_an_error_in_mid_stream(serve, worker):
    base = serve(deadline_s=0.3)
    worker.step_s = 0.05
    worker.silent.append(False)
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
        stream = client.completions.create(model="prose", prompt="abc", max_tokens=200, stream=True)
        with pytest.raises(openai.APIError, match="time was over"):
            for _ in stream:
                pass
