"""An ONNX file of an embedder, read and refused: one picture in, one vector out, everything else constant.

Nodes whose inputs are all known are worked out here, so that an exporter's arithmetic with shapes leaves nothing behind.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSETS = range(9, 22)
DOMAINS = ("", "ai.onnx")


def refuse(source: Path, cause: str, step: str) -> SystemExit:
    """What is raised when a file is refused: three plain sentences, the last of which says what to do."""
    return SystemExit(f"{source.name}: {cause}. {step}.")


class Source:
    """The checked file.

    Attributes:
        model: the ONNX model, its batch set to one.
        nodes: in execution order.
        constants: everything that does not depend on the picture, by name; grows while the graph is read.
        input, output: names.
        channels_first: whether the picture is (1, 3, side, side) rather than (1, side, side, 3).
        opset: version of ONNX's own operators.
    """

    def __init__(self, path: Path, side: int) -> None:
        self.path = path
        try:
            self.model = onnx.load(str(path), load_external_data=False)
        except Exception as error:  # protobuf's own DecodeError, which only says "Error parsing message"
            raise refuse(path, "it is no ONNX file, or not a whole one", "Export or fetch it again") from error
        graph = self.model.graph
        self.opset = max((o.version for o in self.model.opset_import if o.domain in DOMAINS), default=0)
        if self.opset not in OPSETS:
            span = f"{OPSETS[0]} to {OPSETS[-1]}"
            raise refuse(
                path, f"it is written in ONNX opset {self.opset}, and {span} are read", "Export it with opset 17"
            )
        self.constants = dict(self._weight(tensor) for tensor in graph.initializer)
        pictures = [value for value in graph.input if value.name not in self.constants]
        if len(pictures) != 1 or len(graph.output) != 1:
            raise refuse(
                path,
                f"it has {len(pictures)} inputs and {len(graph.output)} outputs; an embedder has one of each",
                "Export the embedder alone, without a loss or a second head",
            )
        self.input, self.output = pictures[0].name, graph.output[0].name
        self.channels_first = self._fix_input(pictures[0], side)
        self.nodes = list(graph.node)
        readers = [name for node in self.nodes for name in node.input] + [self.output]
        self._readers = Counter(readers)
        self._reader = {name: node for node in self.nodes for name in node.input}
        for node in self.nodes:  # a follower that is folded may read what is named after it
            self.fold(node)

    def _weight(self, tensor: onnx.TensorProto) -> tuple[str, np.ndarray]:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            file = next((e.value for e in tensor.external_data if e.key == "location"), "another file")
            raise refuse(
                self.path,
                f"its weights '{tensor.name}' lie in another file, {file}, which no digest in the card covers",
                "Save it as one file: onnx.save(onnx.load(FILE), NEW_FILE)",
            )
        if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
            raise refuse(self.path, f"its weights '{tensor.name}' are {kind}, not float32", "Export it in float32")
        return tensor.name, numpy_helper.to_array(tensor)

    def _fix_input(self, value: onnx.ValueInfoProto, side: int) -> bool:
        """Gives the input its whole shape, batch 1, and says whether channels come first."""
        kind = value.type.tensor_type
        if kind.elem_type != onnx.TensorProto.FLOAT:
            name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
            raise refuse(self.path, f"its input '{value.name}' is {name}, not float32", "Export it in float32")
        said = [d.dim_value for d in kind.shape.dim]  # 0 where it is left open
        for channels_first, wanted in ((True, [1, 3, side, side]), (False, [1, side, side, 3])):
            open_or_right = len(said) == 4 and all(d <= 0 or d == w for d, w in zip(said, wanted, strict=True))
            if open_or_right and said[1 if channels_first else 3] == 3:
                for dim, size in zip(kind.shape.dim, wanted, strict=True):
                    dim.dim_value = size
                return channels_first
        raise refuse(
            self.path,
            f"its input '{value.name}' is {said}, not one picture of {side}x{side} in three colours "
            f"([1, 3, {side}, {side}] or [1, {side}, {side}, 3])",
            "Export it for one face at a time, or name its alignment in input.template of the card",
        )

    def name_of(self, node: onnx.NodeProto) -> str:
        """How a person finds the node: its name, or that of its output."""
        return node.name or node.output[0]

    def unfit(self, node: onnx.NodeProto, cause: str, step: str) -> SystemExit:
        """What is raised when a node cannot be written."""
        return refuse(self.path, f"the operator {node.op_type} at node '{self.name_of(node)}' {cause}", step)

    def attributes(self, node: onnx.NodeProto) -> dict[str, Any]:
        """Its attributes by name; texts as bytes."""
        return {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def spell_out_pads(self, node: onnx.NodeProto, pads: list[int]) -> None:
        """Writes the pads into the model where it has auto_pad, which ONNX's own evaluator, up to 1.22, reads wrongly."""
        if "auto_pad" in self.attributes(node):
            kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("pads", pads)])

    def sole_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that reads a value, if it is the only one that does."""
        return self._reader.get(name) if self._readers[name] == 1 else None

    def is_read(self, name: str) -> bool:
        """Whether a node reads it or it leaves the graph."""
        return self._readers[name] > 0

    def constant(self, node: onnx.NodeProto, place: int) -> np.ndarray | None:
        """The input of a node at that place, None if it is left out.

        Raises:
            SystemExit: it depends on the picture.
        """
        if place >= len(node.input) or not node.input[place]:
            return None
        name = node.input[place]
        if name not in self.constants:
            raise self.unfit(
                node, f"takes '{name}', which is worked out from the picture", "Export it with constant weights"
            )
        return self.constants[name]

    def fold(self, node: onnx.NodeProto) -> bool:
        """Works out a node that depends on no picture. False if it does depend on one."""
        names = [name for name in node.input if name]
        if any(name not in self.constants for name in names) or node.domain not in DOMAINS:
            return False
        if not names and node.op_type != "Constant":  # a random number, say
            return False
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            return False
        values = {name: self.constants[name] for name in names}
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in values.items()
        ]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "constant", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        try:
            found = ReferenceEvaluator(model).run(None, values)
        except Exception as error:  # whatever numpy says to an operator that it was not written for
            raise self.unfit(node, f"cannot be worked out ({error})", "Export it with constants folded") from error
        self.constants.update(zip((o.name for o in outputs), map(np.asarray, found), strict=True))
        return True
