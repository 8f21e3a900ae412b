"""The clients against the gateway itself."""

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest

from inkwell.client import (
    AsyncClient,
    Client,
    GenerationFailed,
    ModelNotFound,
    NotAuthorized,
    Overloaded,
    Retries,
    ValidationError,
)


@pytest.fixture
def client(base):
    with Client(base) as client:
        yield client


def test_a_text_is_that_of_the_worker(client, expected):
    answer = client.generate(
        "The harbour", seed=5, max_new_tokens=12, details=True, top_n_tokens=2, trace=True
    )
    assert answer.text == expected("The harbour", 5, 12)
    assert (answer.finish_reason, answer.generated_tokens, answer.seed) == ("length", 12, 5)
    assert "".join(token.text for token in answer.tokens) == answer.text
    assert all(len(token.top) == 2 and token.trace["rank"] == 0 for token in answer.tokens)


def test_no_prompt_gets_a_seed_word(client):
    answer = client.generate(max_new_tokens=2)
    assert answer.seed_word == "lantern"


def test_many_texts_come_in_order(client, expected):
    answers = client.generate_many(["a", "b"], n=2, seed=9, max_new_tokens=7, model="names")
    assert [answer.text for answer in answers] == [expected(p, s, 7) for p in "ab" for s in (9, 10)]
    assert {answer.model for answer in answers} == {"names"}


def test_a_stream_gives_the_same_text(client, expected):
    stream = client.stream("abc", seed=3, max_new_tokens=20)
    text = "".join(token.text for token in stream)
    assert text == stream.answer.text == expected("abc", 3, 20)


def test_closing_a_stream_stops_the_work(serve, worker):
    worker.step_s = 0.02
    with Client(serve()) as client:
        with client.stream("abc", max_new_tokens=200) as stream:
            next(stream)
        # The gateway hears of it and lets the worker go.
        until = time.monotonic() + 10
        while not (worker.closed or worker.cancelled) and time.monotonic() < until:
            time.sleep(0.01)
    assert worker.closed or worker.cancelled


def test_a_bad_parameter_is_named(client):
    with pytest.raises(ValidationError, match="temperature must be") as caught:
        client.generate("x", temperature=-1)
    assert caught.value.field == "temperature"
    with pytest.raises(ValidationError, match="category must be one of elf, bear") as caught:
        client.generate("x", category="goblin")
    assert caught.value.field == "category"


def test_a_model_that_is_not_served_is_told(client):
    with pytest.raises(ModelNotFound, match="served are: prose, names"):
        client.generate("x", model="poems")


def test_a_job_that_fails_is_told(client):
    with pytest.raises(GenerationFailed, match="this job failed"):
        client.generate("explode")


def test_a_full_gateway_is_asked_again_until_it_has_room(serve, worker, expected):
    worker.gate.clear()
    url = serve(max_queue_tokens=60)

    async def run():
        async with AsyncClient(url, retries=Retries(deadline=20, base=0.01, cap=0.05)) as client:
            calls = [asyncio.ensure_future(client.generate("a", seed=s, max_new_tokens=40)) for s in range(4)]
            await asyncio.sleep(0.1)
            assert not any(call.done() for call in calls)
            worker.gate.set()
            return await asyncio.gather(*calls)

    answers = asyncio.run(run())
    assert [answer.text for answer in answers] == [expected("a", seed, 40) for seed in range(4)]


def test_a_full_gateway_is_an_error_for_the_impatient(serve, worker):
    worker.gate.clear()
    url = serve(max_queue_tokens=60)

    async def run():
        # The first pause would outlast the deadline, so a refusal is told at once.
        async with AsyncClient(url, retries=Retries(deadline=4, base=1e9, cap=1e9)) as impatient:
            calls = []
            # One after another, since what is sent on to a worker leaves the queue: more than fit into both.
            for _ in range(60):
                calls.append(asyncio.ensure_future(impatient.generate("a", max_new_tokens=40)))
                await asyncio.sleep(0.01)
            done = await asyncio.gather(*calls, return_exceptions=True)
        worker.gate.set()
        return done

    assert any(isinstance(error, Overloaded) for error in asyncio.run(run()))


def test_models_and_info_are_typed(client):
    prose, names = client.models()
    assert (prose.id, prose.default, prose.state, prose.parameters) == ("prose", True, "ready", 123)
    assert names.limits["max_new_tokens"] == 64
    assert client.info().model == "prose"
    assert client.info("names").limits["max_new_tokens"] == 64
    assert client.info().models == ("prose", "names")


def test_the_api_key_opens_the_gateway(serve, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"reader sha256:{hashlib.sha256(b'open-sesame').hexdigest()}\n")
    url = serve(key_file=keys)
    with Client(url, api_key="open-sesame") as client:
        assert client.generate("a", max_new_tokens=2).generated_tokens == 2
    with Client(url) as client, pytest.raises(NotAuthorized):
        client.generate("a")
    with Client(url, api_key="wrong") as client, pytest.raises(NotAuthorized):
        client.generate("a")
