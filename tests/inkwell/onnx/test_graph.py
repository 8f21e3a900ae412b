"""Graphs under construction, and what is refused when one is made or bound."""

from __future__ import annotations

import pytest
import torch

from inkwell.errors import RuntimeUnavailable
from inkwell.onnx.graph import Graph

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def doubling() -> Graph:
    graph = Graph()
    x = graph.input("x", ["n", 3])
    graph.add("Add", x, x, into=graph.output("y", ["n", 3]))
    return graph


def test_a_graph_reads_and_writes_the_memory_that_is_bound() -> None:
    session = doubling().session(1)
    x = torch.arange(6.0).view(2, 3)
    binding = session.bind({"x": x}, {"y": x})  # one address for both
    for factor in (2, 4, 8):
        session.run(binding)
        assert torch.equal(x, factor * torch.arange(6.0).view(2, 3))


def test_a_weight_is_read_where_it_is_and_kept_alive() -> None:
    graph, weight = Graph(), torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.ones(1, 3) @ weight.t()
    assert graph.weight(weight) == graph.weight(weight)
    graph.linear(graph.input("x", [1, 3]), weight, into=graph.output("y", [1, 4]))
    session = graph.session(1)
    del graph, weight
    x, y = torch.ones(1, 3), torch.zeros(1, 4)
    session.run(session.bind({"x": x}, {"y": y}))
    torch.testing.assert_close(y, expected)


def test_memory_with_gaps_is_refused_by_name() -> None:
    session = doubling().session(1)
    with pytest.raises(ValueError, match="x is not contiguous"):
        session.bind({"x": torch.zeros(3, 2).t()}, {"y": torch.zeros(2, 3)})


def test_a_graph_that_the_library_refuses_makes_the_runtime_unavailable() -> None:
    graph = Graph()
    graph.add("NoSuchOperator", graph.input("x", [1]), into=graph.output("y", [1]))
    with pytest.raises(RuntimeUnavailable, match=r"ONNX Runtime refuses the graph: .*NoSuchOperator"):
        graph.session(1)
