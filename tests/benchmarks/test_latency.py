"""`inkwell bench latency`: what it makes of waits and rounds, and one run against a real stack."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import latency
from latency import ALONE, BEHIND, ENGINE, FIRST, WHOLE, Load, Seen
from serving.asking import Asked, Direct, Gateway, busy
from serving.stack import random_bundle

from inkwell.bundle import load_bundle
from inkwell.session import TextEngine

ASKED = Asked("prose", "The", 0.8, 20)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3, 1, 2], 50, 2), ([5], 99, 5), (range(1, 201), 99, 198), ([1, 2], 50, 1)],
)
def test_a_percentile_is_one_of_the_values(values, share, expected):
    assert latency.percentile(list(values), share) == expected


@pytest.fixture
def found():
    first, whole = Load(FIRST, 8, 64), Load(WHOLE, 8, 64)
    return {
        (first, "gateway"): Seen(2, [1.0, 1.0], [[0.01, 0.03], [0.02, 0.04]]),
        (first, "TorchServe"): Seen(2, [1.0, 1.0], [[0.01, 0.01], [0.01, 0.02]]),
        (whole, "gateway"): Seen(16, [2.0, 2.0], [[0.5] * 16] * 2, [0.002] * 2),
        (whole, "TorchServe"): Seen(16, [4.0, 4.0], [[1.0] * 16] * 2),
        (whole, ENGINE): Seen(32, [2.0, 2.0]),
    }


def test_tables_compare_the_ways_and_give_the_share_of_the_engine(found):
    assert list(latency.waits_table(found, (FIRST,))) == [
        ("first token, 8 in flight", "20.0", "40.0", "10.0", "20.0", "2.00")
    ]
    rows = {row[1]: row[2:] for row in latency.rates_table(found)}
    assert rows["gateway"] == ("8.0", "512", "50%", "500.0", "500.0", "2.00")
    assert rows["TorchServe"][2] == "25%"
    assert rows[ENGINE] == ("16.0", "1,024", "100%", "", "", "")


def test_a_crowd_is_compared_with_fewer():
    found = {
        (Load(WHOLE, flight, 64), "gateway"): Seen(count, [seconds], [[1.0]], [cpu])
        for flight, count, seconds, cpu in (
            (32, 64, 1.0, 0.002),
            (64, 128, 1.0, 0.003),
            (512, 1024, 10.0, 0.0024),
        )
    }
    said = latency.crowd_note(found)
    assert said.startswith("512 in flight: 0.80 of the tokens/s of 64, 1.20 of")


def test_figures_are_seconds_of_rounds(found):
    figures = {figure.name: figure for figure in latency.figures_of(found)}
    assert figures["first token, 8 in flight, p50, gateway"].seconds == (0.01, 0.02)
    assert figures["first token, 8 in flight, p99, gateway"].seconds == (0.03, 0.04)
    assert figures["whole, 8 in flight, gateway"].work == 16 * 64
    assert figures[f"whole, 8 in flight, {ENGINE}"].work == 32 * 64


class Server:
    """Answers as the gateway or TorchServe, each stream in two parts, the second when `go_on` is set."""

    def __init__(self, lines, answer):
        self.lines, self.answer = lines, answer
        self.go_on, self.idle, self.asked, self.open = asyncio.Event(), asyncio.Event(), [], 0

    async def handle(self, request):
        self.asked.append((request.path, await request.json()))
        if not (request.path.endswith("stream") or "jobs" in self.asked[-1][1]):
            return web.json_response(self.answer)
        response = web.StreamResponse()
        await response.prepare(request)
        self.open += 1
        try:
            await response.write(self.lines[0])
            await self.go_on.wait()
            await response.write(self.lines[1])
        finally:
            self.open -= 1
            if not self.open:
                self.idle.set()
        return response

    async def __aenter__(self):
        application = web.Application()
        application.router.add_post("/{path:.*}", self.handle)
        self.runner = web.AppRunner(application, handler_cancellation=True)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.session = ClientSession()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        self.go_on.set()
        await self.session.close()
        await self.runner.cleanup()


GATEWAY = ([b"data: {}\n\n", b'data: {"generated_text":"x"}\n\n'], {"generated_text": "x"})
WORKER = (
    [b'{"job": "0", "event": "start"}\n{"job": "0", "event": "tokens"}\n', b'{"job": "0", "event": "end"}\n'],
    {"generated_tokens": 16},
)
WAYS = pytest.mark.parametrize(
    ("kind", "server"), [(Gateway, GATEWAY), (Direct, WORKER)], ids=["gateway", "worker"]
)


@WAYS
async def test_the_time_to_the_first_token_does_not_wait_for_the_rest(kind, server):
    async with Server(*server) as one:
        way, started = kind(one.session, one.url, ASKED), asyncio.Event()
        stream = asyncio.create_task(way.stream(16, 5, started))
        await asyncio.wait_for(started.wait(), 30)
        assert not stream.done()
        one.go_on.set()
        assert await stream > 0
        await way.whole(16, 5)
    (_, streamed), (_, whole) = one.asked
    for body in (streamed, whole):
        inner = body.get("parameters") or (body.get("jobs") or [body])[0]
        wanted = {"max_new_tokens": 16, "min_new_tokens": 16, "seed": 5, "temperature": 0.8, "top_k": 20}
        assert wanted.items() <= inner.items()


@WAYS
async def test_an_answer_that_is_cut_short_or_refused_is_an_error(kind, server):
    async with Server([server[0][0], b""], {"generated_tokens": 3}) as one:
        one.go_on.set()
        way = kind(one.session, one.url, ASKED)
        with pytest.raises(RuntimeError, match="answered 200"):
            await way.stream(16, 5)
        if kind is Direct:
            with pytest.raises(RuntimeError, match="answered"):
                await way.whole(16, 5)


@WAYS
async def test_long_streams_have_all_begun_and_end_with_the_block(kind, server):
    async with Server(*server) as one:
        async with busy(kind(one.session, one.url, ASKED), 5, 500):
            assert one.open == 5
        await asyncio.wait_for(one.idle.wait(), 30)


@WAYS
async def test_a_long_stream_that_fails_fails_the_measurement(kind, server):
    async with Server([b"\n", b"\n"], {}) as one:
        one.go_on.set()
        with pytest.raises(RuntimeError, match="answered"):
            async with busy(kind(one.session, one.url, ASKED), 2, 500):
                pass


@pytest.mark.parametrize("categories", [0, 4])
def test_random_weights_make_a_bundle_that_generates(tmp_path, categories):
    shape = {"architecture": "gpt", "layers": 1, "heads": 2, "width": 16, "window": 8, "vocabulary": 300}
    bundle = load_bundle(random_bundle({**shape, "categories": categories}, tmp_path / "random"))
    assert bundle.tokenizer.size == 300
    assert len(bundle.categories) == max(0, categories - 1)
    job = {"id": "a", "prompt": bundle.tokenizer.decode([1, 2]), "max_new_tokens": 5, "min_new_tokens": 5}
    *_, end = TextEngine(bundle, slots=2, runtime="torch").generate(job)
    assert end["generated_tokens"] == 5


@pytest.mark.parametrize(
    ("words", "said"), [(("--bundle", "nowhere"), "no bundle"), (("--shape", "nothing"), "lstm")]
)
def test_what_is_not_there_is_refused(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        latency.main(list(words))
    assert said in capsys.readouterr().err


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:unclosed file .*model_archiver:ResourceWarning")
def test_a_run_against_a_real_stack_records_every_load(char_bundle, tmp_path, capsys):
    file = tmp_path / "rounds.json"
    words = [
        "--bundle",
        str(char_bundle),
        "--runtime",
        "torch",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
        "--long",
        "4",
    ]
    words += ["--tokens", "8", "--short-tokens", "4", "--long-tokens", "100", "--json", str(file)]
    latency.main(words)
    out = capsys.readouterr().out
    assert "the engine runs on torch" in out
    assert "whole answers of 8 tokens" in out
    figures = {(one["what"], one["side"]) for one in json.loads(file.read_text())["figures"]}
    sides = {"gateway", "TorchServe"}
    assert {side for what, side in figures if what == "whole, 64 in flight"} == {*sides, ENGINE}
    for kind in (f"{FIRST}, 64 in flight", ALONE, BEHIND):
        assert {side for what, side in figures if what == f"{kind}, p99"} == sides
