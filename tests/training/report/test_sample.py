"""Samples drawn here and through a real HTTP server: the same texts, many at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inkwell.bundle import open_bundle
from inkwell.client import ModelNotFound, Unreachable
from inkwell.session import TextEngine
from training.report.sample import SOULSGEN_SECONDS, Sample, local_sample, served_sample

COUNT = 8


class Gateway:
    """Speaks the gateway's native routes for one bundle, and holds answers back until `together` requests are
    there at the same time."""

    def __init__(self, path: Path, together: int) -> None:
        bundle = open_bundle(path)
        lock = threading.Lock()
        self.together = threading.Barrier(together, timeout=20)
        self.bodies: list[dict[str, Any]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({"models": [{"id": "tales", "state": "ready", "parameters": 1_000_000}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                gateway.bodies.append(body)
                if body["model"] != "tales":
                    self.answer({"error": "no such model", "error_type": "model_not_found"}, 404)
                    return
                gateway.together.wait()
                with lock:
                    job = {"prompt": "", "seed": body["parameters"]["seed"]}
                    first, *_, last = TextEngine(bundle).generate(job)
                details = {"finish_reason": "length", "generated_tokens": 1}
                self.answer({"generated_text": first["prompt"] + last["text"], "details": details})

            def answer(self, value: Any, status: int = 200) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Keep the test output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def serve() -> Iterator[Callable[[Path, int], Gateway]]:
    running: list[tuple[Gateway, threading.Thread]] = []

    def start(path: Path, together: int) -> Gateway:
        gateway = Gateway(path, together)
        thread = threading.Thread(target=gateway.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((gateway, thread))
        return gateway

    yield start
    for gateway, thread in running:
        gateway.server.shutdown()
        gateway.server.server_close()
        thread.join()


def test_served_texts_are_those_written_here_and_asked_for_all_at_once(bpe_bundle, serve):
    gateway = serve(bpe_bundle, COUNT)  # one that is asked for less than eight at a time never answers
    served = served_sample(gateway.url, "tales", COUNT, seed=5)
    here = local_sample(bpe_bundle, COUNT, seed=5)
    assert served.texts == here.texts
    assert served.parameters == 1_000_000
    assert here.parameters == open_bundle(bpe_bundle).model.parameter_count()
    assert {body["parameters"]["seed"] for body in gateway.bodies} == set(range(5, 5 + COUNT))


def test_no_more_are_asked_for_at_once_than_allowed(bpe_bundle, serve):
    gateway = serve(bpe_bundle, 2)
    assert len(served_sample(gateway.url, "tales", 4, in_flight=2).texts) == 4


def test_a_model_that_is_not_served_is_told(bpe_bundle, serve):
    with pytest.raises(ModelNotFound, match="no such model"):
        served_sample(serve(bpe_bundle, 1).url, "poems", 1)


def test_no_server_is_told_with_the_way_out():
    with pytest.raises(Unreachable, match=r"no server answers at http://127\.0\.0\.1:9 .* leave out --url"):
        served_sample("http://127.0.0.1:9", "tales", 1)


def test_the_time_is_reckoned_per_sentence_and_put_beside_the_older_one():
    sample = Sample(("One. Two. Three.", "No end", ""), seconds=0.5, how="3 texts", parameters=2_000_000)
    assert sample.seconds_per_sentence == pytest.approx(0.1)
    assert f"{SOULSGEN_SECONDS * 1000:,.0f} ms per sentence on a CPU" in sample.speed()
    assert "100.0 ms per sentence, with 2.0 million parameters" in sample.speed()
    assert "18 times as long" in sample.speed()
