"""Whatever `/openapi.json` allows to be asked is answered as it says, and never with a 5xx."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.main import create_app
from api.settings import Settings

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


# Which operations there are does not hang on settings, so that each can be a test of its own.
OPERATIONS = [
    (method.upper(), path)
    for path, operations in create_app(Settings()).openapi()["paths"].items()
    for method in operations
]
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.fixture
def document(keyed):
    return schemathesis.openapi.from_url(f"{keyed[0]}/openapi.json")


@pytest.mark.parametrize("mode", MODES, ids=["valid", "invalid"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_answers_as_its_description_says(document, keyed, method, path, mode):
    strategy = document[path][method].as_strategy(generation_mode=mode)

    @given(case=strategy)
    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers(case):
        case.call_and_validate(checks=CHECKS, timeout=20, headers={"authorization": f"Bearer {keyed[1]}"})

    try:
        answers()
    except Unsatisfiable:
        # A route without parameters and body cannot be called wrongly.
        assert mode is GenerationMode.NEGATIVE
        assert "requestBody" not in document.raw_schema["paths"][path][method.lower()]


def test_every_route_that_is_served_is_described(document):
    described = set(document.raw_schema["paths"])
    assert {
        "/", "/generate", "/generate_stream", "/tokenize", "/models", "/info", "/health", "/ready", "/ping",
        "/metrics", "/v1/completions", "/v1/models", "/m/{model}/generate", "/m/{model}", "/m/{model}/info",
        "/m/{model}/v1/completions", "/admin/models", "/admin/reload", "/admin/models/{name}/roll",
    } <= described  # fmt: skip
