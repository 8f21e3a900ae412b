"""A gateway before the real handler and engine, for inputs that are sent over the network."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

# The modules beside this file serve these tests only, and are no package.
sys.path.insert(0, str(Path(__file__).parent))

from desk_transport import DeskTransport
from fuzz_targets import tiny

from api.main import create_app
from api.settings import Settings
from handlers.posts import Desk
from inkwell.session import TextEngine

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("fuzz_gateway_fixtures", HERE.parent / "api" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
sys.modules["fuzz_gateway_fixtures"] = _fixtures
_spec.loader.exec_module(_fixtures)
_plain_logs = _fixtures._plain_logs


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Asks a gateway that reaches the engine without TorchServe between them."""
    models = tmp_path_factory.mktemp("fuzz") / "models.toml"
    models.write_text('[models.prose]\nfamily = "prose"\nmax_new_tokens = 24\n', encoding="utf-8")
    settings = Settings(models_file=models, deadline_s=20, retry_base_s=0.01, max_samples=8)
    desk = Desk(TextEngine(tiny(), slots=8), slice_seconds=0.002)
    with (
        _fixtures._Server(create_app(settings, transport=DeskTransport(desk))) as server,
        httpx.Client(base_url=server.url, timeout=30) as made,
    ):
        yield made
