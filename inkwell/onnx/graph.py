"""A graph under construction: operators by name, weights by address.

The graph that goes to ONNX Runtime has no weights in it. They are handed over beside it, as the tensors that the
model already has, so nothing is copied or serialised and no limit of a file format applies; what ONNX Runtime
wants in another order it packs once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inkwell.errors import RuntimeUnavailable
from inkwell.onnx.session import Session

Shape = Sequence[str | int]
"""Sizes of a graph's input or output; a name stands for a size that differs from call to call."""

_OPSET = 20  # the first that has Gelu
_IR_VERSION = 9  # the format that came with it
_CONTRIBUTED = "com.microsoft"
# It would let the product itself write an RNN's new state over the old one, which the product is still reading.
_UNSAFE = ["GemmActivationFusion"]


def libraries() -> tuple[Any, Any]:
    """The packages onnx and onnxruntime. Raises RuntimeUnavailable when one of them is not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        reason = f"{error.name} is not installed" if error.name else str(error)
        raise RuntimeUnavailable(f"{reason}; pip install 'inkwell[onnx]'") from error
    return onnx, onnxruntime


class Graph:
    """Nodes in the order in which they are added. Values go by their names."""

    def __init__(self) -> None:
        self._onnx, self._runtime = libraries()
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: list[Any] = []
        self._weights: dict[str, Tensor] = {}
        self._values = 0

    def input(self, name: str, shape: Shape, dtype: torch.dtype = torch.float32) -> str:
        self._inputs.append(self._described(name, dtype, shape))
        return name

    def output(self, name: str, shape: Shape) -> str:
        """A float32 output, for a node to write `into`."""
        self._outputs.append(self._described(name, torch.float32, shape))
        return name

    def weight(self, tensor: Tensor) -> str:
        """A float32 constant that stays where it is. The same memory asked for twice is one weight."""
        tensor = tensor.detach().to(torch.float32).contiguous()
        for name, known in self._weights.items():
            if known.data_ptr() == tensor.data_ptr() and known.shape == tensor.shape:
                return name
        name = f"weight{len(self._weights)}"
        self._weights[name] = tensor
        return name

    def constant(self, values: Tensor) -> str:
        """A small constant, kept in the graph."""
        name = f"constant{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(values.numpy(), name))
        return name

    def sizes(self, *sizes: int) -> str:
        """Sizes of a shape or of parts, as Reshape and Split take them."""
        return self.constant(torch.tensor(sizes, dtype=torch.long))

    def add(self, operator: str, *values: str, into: str | None = None, **attributes: Any) -> str:
        """A node with one output, which gets a name of its own or goes `into` an output of the graph."""
        return self._add(operator, values, [into or self._name()], attributes)[0]

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Parts of these sizes, one after another along an axis."""
        names = [self._name() for _ in sizes]
        return self._add("Split", (value, self.sizes(*sizes)), names, {"axis": axis})

    def linear(self, x: str, weight: Tensor, bias: str | None = None, into: str | None = None) -> str:
        """`x @ weight.T + bias`. The bias is one row for all, or as many rows as x has."""
        terms = (x, self.weight(weight)) if bias is None else (x, self.weight(weight), bias)
        return self.add("Gemm", *terms, into=into, transB=1)

    def session(self, threads: int) -> Session:
        """What runs the graph on `threads` threads. Raises RuntimeUnavailable when ONNX Runtime refuses it."""
        helper, runtime = self._onnx.helper, self._runtime
        graph = helper.make_graph(
            self._nodes, "step", self._inputs, self._outputs, [*self._constants, *self._placeholders()]
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIBUTED, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        runtime.disable_telemetry_events()  # there are none on Linux; elsewhere a server of one's own tells nobody
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Workers of several models share the cores: a thread that waits must not burn one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        values = [runtime.OrtValue.ortvalue_from_numpy(tensor.numpy()) for tensor in self._weights.values()]
        try:
            options.add_external_initializers(list(self._weights), values)
            session = runtime.InferenceSession(
                model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_UNSAFE,
            )
        except Exception as error:  # its errors have no other root in common
            raise RuntimeUnavailable(f"ONNX Runtime refuses the graph: {error}") from error
        return Session(session, list(self._weights.values()))

    def _name(self) -> str:
        self._values += 1
        return f"value{self._values}"

    def _add(
        self, operator: str, values: Sequence[str], names: list[str], attributes: dict[str, Any]
    ) -> list[str]:
        domain, _, kind = operator.rpartition(
            ":"
        )  # operators that ONNX itself does not have name their domain
        node = self._onnx.helper.make_node(kind, values, names, domain=domain, **attributes)
        self._nodes.append(node)
        return names

    def _placeholders(self) -> list[Any]:
        """Weights as the format knows them when their values are elsewhere."""
        tensors = []
        for name, weight in self._weights.items():
            tensor = self._onnx.TensorProto(
                name=name,
                data_type=self._onnx.TensorProto.FLOAT,
                dims=weight.shape,
                data_location=self._onnx.TensorProto.EXTERNAL,
            )
            for key, value in (("location", "memory"), ("offset", "0"), ("length", str(weight.nbytes))):
                tensor.external_data.add(key=key, value=value)
            tensors.append(tensor)
        return tensors

    def _described(self, name: str, dtype: torch.dtype, shape: Shape) -> Any:
        proto = self._onnx.TensorProto
        kinds = {torch.float32: proto.FLOAT, torch.long: proto.INT64}
        return self._onnx.helper.make_tensor_value_info(name, kinds[dtype], shape)
