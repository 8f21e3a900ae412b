"""One thread: the models are tiny, and other tests share the cores."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# Where CI is set, every run tries the same examples: what is found there can be repeated.
settings.register_profile("inkwell", deadline=None, max_examples=40, derandomize=bool(os.environ.get("CI")))
settings.load_profile("inkwell")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
