"""TorchServe's entry point, driven by a context that holds what TorchServe puts into it."""

from __future__ import annotations

import inspect
import json
from types import SimpleNamespace

import pytest
import torch

from handlers import continuous
from handlers.continuous import ContinuousHandler
from inkwell.bundle import load_bundle
from inkwell.session import TextEngine


class Context(SimpleNamespace):
    """Only data, and the one setter that the handler calls; as `ts.context.Context` has them."""

    def __init__(self, model_dir, settings=None, gpu_id=None):
        super().__init__(
            system_properties={"model_dir": str(model_dir), "gpu_id": gpu_id},
            model_yaml_config=settings,
            request_ids={},
            stopping_criteria=None,
            content_types={},
        )

    def set_response_content_type(self, index, value):
        self.content_types[index] = value


@pytest.fixture
def model_dir(char_bundle, tmp_path):
    (tmp_path / "bundle").symlink_to(char_bundle)
    return tmp_path


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def call(handler, context, rows):
    """One call with `rows` by request id; what each request gets, and whether more follows."""
    context.request_ids = dict(enumerate(rows))
    chunks = handler.handle(list(rows.values()), context)
    assert len(chunks) == len(context.stopping_criteria) == len(rows)
    ended = [criterion(chunk) for criterion, chunk in zip(context.stopping_criteria, chunks, strict=True)]
    return dict(zip(rows, zip(chunks, ended, strict=True), strict=True))


def ready(model_dir, **settings):
    handler, context = ContinuousHandler(), Context(model_dir, {"handler": settings} if settings else None)
    handler.initialize(context)
    return handler, context


def test_the_module_defines_exactly_one_class():
    classes = [
        c for _, c in inspect.getmembers(continuous, inspect.isclass) if c.__module__ == continuous.__name__
    ]
    assert classes == [ContinuousHandler]


def test_a_body_is_answered_as_local_generation_answers(model_dir, char_bundle, threads):
    handler, context = ready(model_dir, slots=4, slice_ms=60_000, threads=1)
    ask = {"prompt": "The", "seed": 8, "max_new_tokens": 10}
    rows = {"r1": {"body": ask}}
    answer = b""
    while rows:
        chunk, ended = call(handler, context, rows)["r1"]
        answer += chunk
        if ended is not False:
            rows = {}
    events = TextEngine(load_bundle(char_bundle), slots=1).generate(
        {"prompt": "The", "seed": 8, "max_new_tokens": 10}
    )
    assert json.loads(answer)["generated_text"] == next(e for e in events if e["event"] == "end")["text"]
    assert context.content_types == {0: "application/json"}


def test_each_request_gets_its_own_chunk_criterion_and_content_type(model_dir, threads):
    handler, context = ready(model_dir)
    long = {"body": {"jobs": [{"id": "a", "prompt": "The", "max_new_tokens": 400}]}}
    found = call(handler, context, {"card": {"body": {"describe": True}}, "jobs": long})
    assert found["card"][1] is None
    assert json.loads(found["card"][0])["slots"] == 64
    assert found["jobs"][1] is False
    assert context.content_types == {0: "application/json", 1: "application/x-ndjson"}


def test_a_request_that_is_not_handed_over_again_is_given_up(model_dir, threads):
    handler, context = ready(model_dir)
    call(
        handler, context, {"jobs": {"body": {"jobs": [{"id": "a", "prompt": "The", "max_new_tokens": 400}]}}}
    )
    card = json.loads(call(handler, context, {"card": {"body": {"describe": True}}})["card"][0])
    assert card["engine"]["active"] == 0
    assert card["engine"]["cancelled_total"] == 1


def test_settings_of_the_model_config_are_followed(model_dir, threads):
    handler, context = ready(model_dir, slots=3, max_new_tokens=9, threads=2)
    card = json.loads(call(handler, context, {"card": {"body": {"describe": True}}})["card"][0])
    assert card["slots"] == 3
    assert card["limits"]["max_new_tokens"] == 9
    assert torch.get_num_threads() == 2


def test_warming_up_leaves_no_trace_in_the_figures(model_dir, threads):
    handler, context = ready(model_dir)
    card = json.loads(call(handler, context, {"card": {"body": {"describe": True}}})["card"][0])
    assert card["engine"]["tokens_total"] == card["engine"]["submitted_total"] == 0


@pytest.mark.parametrize("gpu_id", [None, -1, "-1", 0])
def test_without_a_usable_gpu_the_cpu_is_taken(model_dir, gpu_id, threads, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    handler, context = ContinuousHandler(), Context(model_dir, gpu_id=gpu_id)
    handler.initialize(context)
    card = json.loads(call(handler, context, {"card": {"body": {"describe": True}}})["card"][0])
    assert card["device"] == "cpu"


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"context": b"The lantern"}, "The lantern"),
        ({"context": "Old"}, "Old"),
        ({"context": bytearray(b"Old")}, "Old"),
        ({"data": b'{"context": "The"}'}, "The"),
        ({"body": b'{"context": "The"}'}, "The"),
        ({"body": bytearray(b'{"context": "The"}')}, "The"),
    ],
)
def test_json_bodies_and_form_fields_are_read(model_dir, row, prompt, threads):
    handler, context = ready(model_dir)
    rows, answer = {"r": row}, b""
    while rows:
        chunk, ended = call(handler, context, rows)["r"]
        answer += chunk
        if ended is not False:
            rows = {}
    assert json.loads(answer)["result"].startswith(prompt)


def test_a_call_before_initialize_says_so(model_dir):
    with pytest.raises(RuntimeError, match="before initialize"):
        ContinuousHandler().handle([{}], Context(model_dir))
