"""A TensorFlow Lite graph written, and rewritten, one operator at a time.

The models built here need only a dozen operators between them, so their float graphs are written straight into
the TensorFlow Lite schema. That keeps a 2.3 GB converter out of the build, leaves nothing to a converter's
optimiser, and makes the same source give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

Op = schema.BuiltinOperator
SCHEMA_VERSION = 3  # of the TensorFlow Lite flatbuffer, fixed since 2017


class Graph:
    """A float32 graph with one signature, grown in execution order.

    Tensors are numbered as they are added; methods that add an operator return the number of its output.
    """

    def __init__(self, description: str) -> None:
        self.model = schema.ModelT()
        self.model.version = SCHEMA_VERSION
        self.model.description = description
        self.model.buffers = [schema.BufferT()]  # buffer 0 is the empty one, by the format's rule
        self.model.operatorCodes = []
        self.model.metadata = []
        self.subgraph = schema.SubGraphT()
        self.subgraph.name = "main"
        self.subgraph.tensors, self.subgraph.operators = [], []
        self.subgraph.inputs, self.subgraph.outputs = [], []
        self.model.subgraphs = [self.subgraph]

    def shape(self, tensor: int) -> list[int]:
        return list(self.subgraph.tensors[tensor].shape)

    def activation(self, name: str, shape: list[int]) -> int:
        return self._tensor(name, shape, schema.TensorType.FLOAT32, buffer=0)

    def constant(self, name: str, values: np.ndarray) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        kind = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}[values.dtype.name]
        return self._tensor(name, list(values.shape), kind, buffer=len(self.model.buffers) - 1)

    def _tensor(self, name: str, shape: list[int], kind: int, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [int(n) for n in shape], kind, buffer
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def operator(self, code: int, inputs: list[int], output: int, options_type: int = 0, options: object = None) -> int:
        known = [c.builtinCode for c in self.model.operatorCodes]
        if code not in known:
            entry = schema.OperatorCodeT()
            # Readers from before 2021 look at the deprecated byte; the version selects the kernel.
            entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, 127)
            entry.version = 3 if code == Op.TRANSPOSE_CONV else 1  # version 3 takes a bias
            self.model.operatorCodes.append(entry)
            known.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = known.index(code)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = options_type, options
        self.subgraph.operators.append(operator)
        return output

    def finish(self, inputs: dict[str, int], outputs: dict[str, int], path: Path) -> None:
        """Names the signature and writes the file."""
        self.subgraph.inputs, self.subgraph.outputs = list(inputs.values()), list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [_entry(name, tensor) for name, tensor in inputs.items()]
        signature.outputs = [_entry(name, tensor) for name, tensor in outputs.items()]
        self.model.signatureDefs = [signature]
        path.parent.mkdir(parents=True, exist_ok=True)
        flatbuffer_utils.write_model(self.model, str(path))


def _entry(name: str, tensor: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


def conv_options(stride: int, padding: int, *, relu: bool) -> schema.Conv2DOptionsT:
    """Options of a convolution; `padding` is of schema.Padding."""
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = padding, stride, stride
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = _activation(relu=relu)
    return options


def depthwise_options(stride: int, padding: int, *, relu: bool) -> schema.DepthwiseConv2DOptionsT:
    """Options of a depthwise convolution."""
    options = schema.DepthwiseConv2DOptionsT()
    options.padding, options.strideH, options.strideW = padding, stride, stride
    options.dilationHFactor = options.dilationWFactor = options.depthMultiplier = 1
    options.fusedActivationFunction = _activation(relu=relu)
    return options


def transpose_conv_options(stride: int, *, relu: bool) -> schema.TransposeConvOptionsT:
    """Options of a transposed convolution without padding."""
    options = schema.TransposeConvOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, stride, stride
    options.fusedActivationFunction = _activation(relu=relu)
    return options


def add_options(*, relu: bool = False) -> schema.AddOptionsT:
    """Options of an addition."""
    options = schema.AddOptionsT()
    options.fusedActivationFunction = _activation(relu=relu)
    return options


def pool_options(side: int, stride: int) -> schema.Pool2DOptionsT:
    """Options of a maximum or average pooling without padding."""
    options = schema.Pool2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, stride, stride
    options.filterHeight, options.filterWidth = side, side
    options.fusedActivationFunction = _activation(relu=False)
    return options


def _activation(*, relu: bool) -> int:
    kinds = schema.ActivationFunctionType
    return int(kinds.RELU if relu else kinds.NONE)
