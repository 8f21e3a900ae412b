"""Traces reach a collector, join what the caller began, and go on to the worker. Off unless asked for."""

from __future__ import annotations

import gzip
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.tracing import NO_TRACING, TracingUnavailableError, tracing_to

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector():
    """A small OTLP collector: its URL, and the spans it was sent."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            sent = ExportTraceServiceRequest.FromString(body)
            spans.extend(
                span for one in sent.resource_spans for scope in one.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
    server.server_close()
    thread.join(10)


def until(condition, what):
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)


def ask(base, prompt="abc", **headers):
    body = {"inputs": prompt, "parameters": {"max_new_tokens": 4}}
    return httpx.post(base + "/generate", json=body, headers=headers, timeout=20)


def test_a_request_and_its_dispatch_are_spans_of_the_callers_trace(serve, worker, collector):
    url, spans = collector
    base = serve(otel_endpoint=url)
    assert ask(base, traceparent=f"00-{TRACE}-{PARENT}-01").status_code == 200
    carried = worker.post_headers[-1]["traceparent"].split("-")
    serve.stop()
    request = next(span for span in spans if span.name == "POST /generate")
    dispatch = next(span for span in spans if span.name == "dispatch")
    assert request.trace_id.hex() == dispatch.trace_id.hex() == carried[1] == TRACE
    assert request.parent_span_id.hex() == PARENT
    assert dispatch.parent_span_id == request.span_id
    assert carried[2] == dispatch.span_id.hex()
    told = {one.key: one.value for one in dispatch.attributes}
    assert told["inkwell.model"].string_value == "prose"
    assert told["inkwell.jobs"].int_value == 1


def test_a_dispatch_of_many_requests_is_linked_to_all_of_them(serve, worker, collector):
    url, spans = collector
    base = serve(otel_endpoint=url, starting_dispatches=1)
    worker.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, base)]
        until(lambda: worker.posts, "one must be under way")
        answers += [pool.submit(ask, base) for _ in range(3)]
        gateway = serve.gateway(base)
        until(lambda: gateway.batchers["prose"].waiting == 3, "three must wait")
        worker.gate.set()
        assert {answer.result().status_code for answer in answers} == {200}
    serve.stop()
    shared = next(span for span in spans if span.name == "dispatch" and len(span.links) == 2)
    requests = {span.span_id for span in spans if span.name == "POST /generate"}
    assert {shared.parent_span_id, *(link.span_id for link in shared.links)} < requests


def test_a_failed_request_is_marked(serve, collector):
    url, spans = collector
    base = serve(otel_endpoint=url)
    httpx.get(base + "/ready")
    ask(base, prompt="explode")
    serve.stop()
    statuses = {
        span.name: one.value.int_value
        for span in spans
        for one in span.attributes
        if one.key == "http.response.status_code"
    }
    assert statuses["POST /generate"] == 424


def test_nothing_is_traced_unless_asked_for(base, worker):
    ask(base, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert "traceparent" not in worker.post_headers[-1]
    assert tracing_to(None, 1.0) is NO_TRACING


def test_missing_packages_are_named_with_the_command_that_brings_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingUnavailableError, match=r"pip install 'inkwell\[otel\]'"):
        tracing_to("http://127.0.0.1:9/v1/traces", 1.0)
