"""A force's own embedder in ONNX: what the file computes is what the converted graph computes, or it is refused.

`onnx` belongs to the builder's environment, which scripts/build-models makes; where neither has it these tests skip.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.sight import runtime
from edge.sight.embed import Embedder

ROOT = Path(__file__).resolve().parents[1]
litert = pytest.importorskip("ai_edge_litert.interpreter")
built = [str(path) for path in ROOT.glob(".cache/models/venv-*/lib/python3.11/site-packages")]
sys.path += built  # last, so that it gives only what is lacking here; and only for this import
try:
    onnx = pytest.importorskip("onnx", reason="onnx is in the builder's environment: run scripts/build-models once")
finally:
    sys.path[:] = [path for path in sys.path if path not in built]
NAMES = ("onnx_embedder", "onnx_layers", "onnx_source", "flatbuffer", "mobilefacenet")
SIDE = 32


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("ai_edge_litert.tools.flatbuffer_utils")
    monkeypatch.syspath_prepend(str(ROOT / "models/builder"))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        sys.modules.pop(name, None)


class Net:
    """An ONNX graph, grown node by node."""

    def __init__(
        self, *, first: bool = True, batch: Any = 1, opset: int = 13, automatic: bool = False, side: int = SIDE
    ) -> None:
        self.side = side
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.random = np.random.default_rng(7)
        self.at, self.channels, self.opset, self.automatic = "in", 3, opset, automatic
        shape = [batch, 3, side, side] if first else [batch, side, side, 3]
        self.entry = onnx.helper.make_tensor_value_info("in", onnx.TensorProto.FLOAT, shape)
        if not first:
            self.node("Transpose", perm=[0, 3, 1, 2])

    def constant(self, values: Any, kind: Any = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def normal(self, *shape: int, by: float = 1.0, mean: float = 0.0) -> str:
        return self.constant(mean + by * self.random.normal(size=shape))

    def node(self, kind: str, *more: str, inputs: list[str] | None = None, **attributes: Any) -> str:
        read = inputs if inputs is not None else [self.at, *more]
        self.at = f"v{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, read, [self.at], f"{kind}_{len(self.nodes)}", **attributes))
        return self.at

    def conv(self, filters: int, side: int = 3, *, group: int = 1, bias: bool = False, **attributes: Any) -> str:
        weights = self.normal(
            filters, self.channels // group, side, side, by=(side * side * self.channels / group) ** -0.5
        )
        self.channels = filters
        return self.node("Conv", weights, *([self.normal(filters)] if bias else []), group=group, **attributes)

    def norm(self) -> str:
        c = self.channels
        spread = self.constant(self.random.uniform(0.5, 2, c))
        return self.node("BatchNormalization", self.normal(c, mean=1, by=0.3), self.normal(c), self.normal(c), spread)

    def prelu(self) -> str:
        return self.node("PRelu", self.normal(self.channels, 1, 1, by=0.2, mean=0.25))

    def dense(self, size: int, inputs: int) -> str:
        self.channels = size
        return self.node("Gemm", self.normal(size, inputs, by=inputs**-0.5), self.normal(size), transB=1)

    def model(self, output: str = "") -> Any:
        end = onnx.helper.make_empty_tensor_value_info(output or self.at)
        graph = onnx.helper.make_graph(self.nodes, "test", [self.entry], [end], self.weights)
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self.opset)], ir_version=8)

    def save(self, path: Path) -> Path:
        onnx.save(self.model(), str(path))
        return path


def mobile(net: Net) -> Net:
    """MobileFaceNet's kinds of layers: depthwise, normalised, PReLU, a shortcut, a dense layer over a flattened map."""
    net.conv(8, strides=[2, 2], pads=[1, 1, 1, 1])
    net.norm()
    before = net.prelu()
    net.conv(8, group=8, pads=[1, 1, 1, 1])
    net.norm()
    net.prelu()
    net.conv(8, 1, bias=True)
    net.node("Add", before)
    net.conv(16, group=2, strides=[2, 2], pads=[0, 1, 1, 0])  # other pads than any convention's
    net.node("Relu")
    net.node("Flatten")
    net.dense(12, 16 * (net.side // 4) ** 2)
    net.norm()
    return net


def pooled(net: Net) -> Net:
    """An IR-ResNet's: normalisation before the convolution, grouped, a pooled shortcut, a squeeze and excitation."""
    net.node("Sub", net.constant(0.1))
    net.node("Mul", net.constant([[[0.9]], [[1.0]], [[1.1]]]))
    same = {"auto_pad": "SAME_UPPER"} if net.automatic else {"pads": [0, 0, 1, 1]}  # the odd one at the bottom right
    net.conv(12, strides=[2, 2], bias=True, **same)
    net.norm()
    before = net.prelu()
    net.norm()  # two readers: nothing is folded
    net.conv(12, group=3, pads=[2, 2, 2, 2], dilations=[2, 2])
    net.norm()
    net.node("LeakyRelu", alpha=0.1)
    inner = net.node("Identity")
    net.node("GlobalAveragePool")
    net.conv(4, 1, bias=True)
    net.node("Relu")
    net.conv(12, 1, bias=True)
    net.node("Sigmoid")
    net.node("Mul", inner)
    net.node("Add", before)
    joined = net.node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    net.node("Clip", net.constant(0.0), net.constant(6.0)) if net.opset > 10 else net.node("Clip", min=0.0, max=6.0)
    net.node("Concat", joined, axis=1)
    net.channels = 24
    net.conv(16, 8, group=8)  # two filters to a channel
    net.node("Dropout")
    net.node("Squeeze", net.constant([2, 3], np.int64)) if net.opset > 12 else net.node("Squeeze", axes=[2, 3])
    net.node("MatMul", net.normal(16, 10))
    net.node("Add", net.normal(10))
    return net


def spelt(net: Net) -> Net:
    """A PReLU spelt out, means over pictures in each form, a normalisation of a flattened map."""
    net.node("Div", net.constant(2.0))
    x = net.conv(6, pads=[2, 1, 2, 1], strides=[1, 2])
    relu = net.node("Relu")
    absolute = net.node("Abs", inputs=[x])
    net.node("Sub", inputs=[x, absolute])
    slope = net.node("Mul", net.normal(1, 6, 1, 1, by=0.1, mean=0.1))
    net.node("Add", inputs=[relu, slope])
    net.node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], count_include_pad=1)
    x = net.node("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    axes = [net.constant([2, 3], np.int64)] if net.opset > 17 else []
    mean = net.node("ReduceMean", *axes, keepdims=1, **({} if axes else {"axes": [-1, -2]}))
    net.node("Neg", inputs=[mean])
    net.node("Add", x)
    net.node("Tanh")
    flat = net.node("Reshape", net.constant([0, -1], np.int64))
    net.channels = 6 * 8 * 4
    net.norm()
    net.node("Add", inputs=[net.at, flat])
    net.dense(7, 6 * 8 * 4)
    net.node("Unsqueeze", net.constant([2, 3], np.int64)) if net.opset > 12 else net.node("Unsqueeze", axes=[2, 3])
    net.node("PRelu", net.normal(7, 1, 1))
    net.node("ReduceMean", *axes, keepdims=0, **({} if axes else {"axes": [2, 3]}))
    return net


def ran(model: Path, chip: NDArray[Any]) -> NDArray[Any]:
    interpreter = litert.Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], chip)
    interpreter.invoke()
    result: NDArray[Any] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result


def chips(count: int = 3) -> list[NDArray[Any]]:
    random = np.random.default_rng(11)
    return [random.normal(0, 1, (1, SIDE, SIDE, 3)).astype(np.float32) for _ in range(count)]


def said(model: Any, chip: NDArray[Any], *, first: bool) -> NDArray[Any]:
    """By ONNX's own evaluator, as at inference: below opset 14 it moves the means of a normalisation unless told."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops.op_batch_normalization import _batchnorm_test_mode

    class BatchNormalization(OpRun):
        def _run(self, *inputs: NDArray[Any], epsilon: float, **_: Any) -> tuple[NDArray[Any]]:
            return (_batchnorm_test_mode(*inputs, epsilon=epsilon),)

    evaluator = ReferenceEvaluator(model, new_ops=[BatchNormalization])
    result: NDArray[Any] = evaluator.run(None, {"in": chip.transpose(0, 3, 1, 2) if first else chip})[0]
    return result


def operators(builder: Any, path: Path) -> list[str]:
    model = builder.mobilefacenet.flatbuffer_utils.read_model(str(path))
    names = {v: k for k, v in vars(builder.flatbuffer.Op).items() if not k.startswith("_")}
    return [names[model.operatorCodes[o.opcodeIndex].builtinCode] for o in model.subgraphs[0].operators]


@pytest.mark.parametrize("first", [True, False], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
@pytest.mark.parametrize("network", [mobile, pooled, spelt])
def test_the_converted_graph_computes_what_the_file_computes(
    builder: Any, tmp_path: Path, network: Callable[[Net], Net], opset: int, first: bool
) -> None:
    net = network(Net(first=first, opset=opset))
    # ONNX's own evaluator misreads auto_pad, so the file has it and what is expected is from the pads that it means.
    source = network(Net(first=first, opset=opset, automatic=True)).save(tmp_path / "net.onnx")
    builder.onnx_embedder.convert(source, tmp_path / "net.tflite", SIDE)
    for chip in chips():
        expected = said(net.model(), chip, first=first)
        assert ran(tmp_path / "net.tflite", chip) == pytest.approx(expected, abs=1e-5 * float(np.abs(expected).max()))


def test_normalisations_activations_and_changes_of_order_leave_no_operator_behind(builder: Any, tmp_path: Path) -> None:
    source = mobile(Net(first=False)).save(tmp_path / "net.onnx")
    builder.onnx_embedder.convert(source, tmp_path / "net.tflite", SIDE)
    assert operators(builder, tmp_path / "net.tflite") == [
        "PAD", "CONV_2D", "PRELU", "DEPTHWISE_CONV_2D", "PRELU", "CONV_2D", "ADD", "PAD", "CONV_2D", "RESHAPE",
        "FULLY_CONNECTED",
    ]  # fmt: skip


def test_a_limit_that_no_number_reaches_is_none(builder: Any, tmp_path: Path) -> None:
    largest = float(np.finfo(np.float32).max)
    for high in ((), ("",), (largest,)):
        net = Net(opset=17)
        net.conv(6, strides=[4, 4])
        net.node("Clip", net.constant(0.0), *(h if h == "" else net.constant(h) for h in high))
        net.node("Flatten")
        net.dense(5, 6 * 8 * 8)
        builder.onnx_embedder.convert(net.save(tmp_path / "net.onnx"), tmp_path / "net.tflite", SIDE)
        assert "RELU" in operators(builder, tmp_path / "net.tflite")


def test_a_channels_last_map_that_is_flattened_as_it_lies_is_understood_too(builder: Any, tmp_path: Path) -> None:
    """As Keras exports it: turned for the convolution, turned back before the flattening."""
    net = Net(first=False)
    net.conv(6, strides=[4, 4])
    net.node("Transpose", perm=[0, 2, 3, 1])
    net.node("Add", net.normal(6))
    net.node("Flatten")
    net.dense(5, 8 * 8 * 6)
    builder.onnx_embedder.convert(net.save(tmp_path / "net.onnx"), tmp_path / "net.tflite", SIDE)
    chip = chips(1)[0]
    assert ran(tmp_path / "net.tflite", chip) == pytest.approx(said(net.model(), chip, first=False), abs=1e-5)


def test_a_flattened_map_without_a_dense_layer_keeps_the_order_of_its_numbers(builder: Any, tmp_path: Path) -> None:
    net = Net()
    net.conv(4, strides=[16, 16], pads=[1, 1, 1, 1])
    net.node("Flatten")
    builder.onnx_embedder.convert(net.save(tmp_path / "net.onnx"), tmp_path / "net.tflite", SIDE)
    chip = chips(1)[0]
    assert ran(tmp_path / "net.tflite", chip) == pytest.approx(said(net.model(), chip, first=True), abs=1e-5)


def test_a_batch_and_shapes_that_an_exporter_left_open_are_set_to_one_face(builder: Any, tmp_path: Path) -> None:
    net = Net(batch="batch")
    net.conv(6, strides=[4, 4])
    kept = net.at
    net.node("Shape")
    net.node("Gather", net.constant(0, np.int64), axis=0)
    net.node("Unsqueeze", net.constant([0], np.int64))
    shape = net.node("Concat", net.constant([-1], np.int64), axis=0)
    net.node("Reshape", inputs=[kept, shape])
    net.dense(5, 6 * 8 * 8)
    builder.onnx_embedder.convert(net.save(tmp_path / "net.onnx"), tmp_path / "net.tflite", SIDE)
    chip = chips(1)[0]
    assert ran(tmp_path / "net.tflite", chip) == pytest.approx(said(net.model(), chip, first=True), abs=1e-5)


def _pytorch(net: Net) -> None:
    vector = net.at
    net.node("ReduceL2", axes=[1], keepdims=1)
    net.node("Clip", net.constant(1e-12))
    length = net.node("Expand", net.constant([1, 5], np.int64))
    net.node("Div", inputs=[vector, length])


def _tensorflow(net: Net) -> None:
    vector = net.at
    net.node("Mul", inputs=[vector, vector])
    net.node("ReduceSum", net.constant([1], np.int64), keepdims=1)
    net.node("Max", net.constant(1e-12))
    net.node("Sqrt")
    length = net.node("Reciprocal")
    net.node("Mul", inputs=[vector, length])


def _onnx(net: Net) -> None:
    net.node("LpNormalization", axis=-1, p=2)


@pytest.mark.parametrize("scale", [_pytorch, _tensorflow, _onnx])
def test_a_scaling_to_length_1_at_the_end_is_left_out(
    builder: Any, tmp_path: Path, scale: Callable[[Net], None]
) -> None:
    net = Net()
    net.conv(6, strides=[4, 4])
    net.node("Flatten")
    net.dense(5, 6 * 8 * 8)
    scale(net)
    builder.onnx_embedder.convert(net.save(tmp_path / "net.onnx"), tmp_path / "net.tflite", SIDE)
    assert operators(builder, tmp_path / "net.tflite")[-1] == "FULLY_CONNECTED"
    found = ran(tmp_path / "net.tflite", chips(1)[0])
    assert found / np.linalg.norm(found) == pytest.approx(said(net.model(), chips(1)[0], first=True), abs=1e-5)


def _dense_after_scaling(net: Net) -> None:
    _onnx(net)
    net.dense(4, 5)


def _unknown(net: Net) -> None:
    net.node("Softmax", axis=1)


def _clipped_above(net: Net) -> None:
    net.node("Clip", "", net.constant(6.0))


def _foreign(net: Net) -> None:
    net.node("Mish", domain="com.example")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_unknown, r"net\.onnx: the operator Softmax at node 'Softmax_3' is none that this converter knows\. Export "),
        (_clipped_above, r"the operator Clip at node 'Clip_3' keeps values from -inf to 6\.0"),
        (_foreign, r"the operator Mish at node 'Mish_3' is of 'com\.example'"),
        (_dense_after_scaling, r"works on a vector that the node 'LpNormalization_3' has scaled to length 1"),
    ],
)
def test_what_is_not_known_is_refused_with_operator_node_and_a_next_step(
    builder: Any, tmp_path: Path, spoil: Callable[[Net], None], why: str
) -> None:
    net = Net()
    net.conv(6, strides=[4, 4])
    net.node("Flatten")
    net.dense(5, 6 * 8 * 8)
    spoil(net)
    with pytest.raises(SystemExit, match=why):
        builder.onnx_embedder.convert(net.save(tmp_path / "net.onnx"), tmp_path / "net.tflite", SIDE)
    assert not (tmp_path / "net.tflite").exists()


def test_weights_in_another_file_are_refused_by_name(builder: Any, tmp_path: Path) -> None:
    model = mobile(Net()).model()
    onnx.save(model, str(tmp_path / "net.onnx"), save_as_external_data=True, location="big.bin", size_threshold=0)
    with pytest.raises(SystemExit, match=r"weights 'w\d+' lie in another file, big\.bin.*Save it as one file"):
        builder.onnx_embedder.convert(tmp_path / "net.onnx", tmp_path / "net.tflite", SIDE)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (lambda: b"no model", "no ONNX file"),
        (lambda: mobile(Net()).model().SerializeToString()[:-500], "no ONNX file"),
        (lambda: mobile(Net(opset=8)).model().SerializeToString(), "opset 8, and 9 to 21 are read"),
        (lambda: mobile(Net(batch=2)).model().SerializeToString(), r"\[2, 3, 32, 32\], not one picture of 32x32"),
    ],
)
def test_a_file_that_is_no_embedder_for_one_face_is_refused(
    builder: Any, tmp_path: Path, file: Callable[[], bytes], why: str
) -> None:
    (tmp_path / "net.onnx").write_bytes(file())
    with pytest.raises(SystemExit, match=why):
        builder.onnx_embedder.convert(tmp_path / "net.onnx", tmp_path / "net.tflite", SIDE)


def test_a_graph_that_computes_something_else_is_refused_and_not_left_behind(
    builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault that is likeliest: a dense layer whose weights stay in the order of channels first."""
    source = mobile(Net()).save(tmp_path / "net.onnx")
    right = builder.onnx_layers.Layers._dense

    def wrong(self: Any, node: Any, weights: NDArray[Any], bias: NDArray[Any]) -> None:
        right(self, node, weights[:, np.argsort(self.value(node).order.ravel())], bias)

    monkeypatch.setattr(builder.onnx_layers.Layers, "_dense", wrong)
    with pytest.raises(SystemExit, match=r"does not compute what the file says.*0\.9999 is asked for"):
        builder.onnx_embedder.convert(source, tmp_path / "net.tflite", SIDE)
    assert not (tmp_path / "net.tflite").exists()


CARD = """
name = "own"
kind = "embedder"
description = "A test."
licence = "none"
data = {{ training = "none", terms = "none" }}
limits = {{ known = [] }}
[input]
colour = "RGB"
mean = 127.5
divisor = 128.0
template = "arcface-112"
[source]
registry = "none"
package = "none"
version = "none"
sha256 = "{digest}"
file = "net.onnx"
file_sha256 = "{digest}"
authors = "none"
"""


@pytest.mark.parametrize("first", [True, False], ids=["NCHW", "NHWC"])
def test_the_builder_makes_a_pack_of_it_that_the_van_loads_as_an_embedder(tmp_path: Path, first: bool) -> None:
    """In the builder's own environment, with its quantiser."""
    pins = hashlib.sha256((ROOT / "models/builder/requirements.txt").read_bytes()).hexdigest()[:12]
    if not (ROOT / f".cache/models/venv-{pins}/bin/python").exists():
        pytest.skip("the builder's environment is not there: run scripts/build-models once")
    net = mobile(Net(first=first, side=112))
    source = net.save(tmp_path / "net.onnx")
    (tmp_path / "own").mkdir()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    (tmp_path / "own/card.toml").write_text(CARD.format(digest=digest))
    build = [ROOT / "scripts/build-models", "--pack", tmp_path / "own", source]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the least cosine" in done.stdout
    chip = np.random.default_rng(2).integers(0, 256, (112, 112, 3), np.uint8)
    expected = said(net.model(), ((chip[None, :, :, ::-1] - 127.5) / 128).astype(np.float32), first=first)[0]
    for variant, least in (("float", 0.999999), ("dynamic-int8", 0.999)):
        embedder = Embedder(runtime.load(f"own:{variant}", directory=tmp_path, kind="embedder"))
        assert embedder.embed(chip) @ expected / np.linalg.norm(expected) > least
    assert "CONV_2D and FULLY_CONNECTED" in (tmp_path / "own/card.toml").read_text()
