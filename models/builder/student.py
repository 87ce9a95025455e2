"""The embedder as torch computes it, in float or as its static int8 form would: what distil.py fine-tunes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffer import Op, schema
from mobilefacenet import replace, values_of
from torch import nn
from torch.nn import functional


class Round(torch.autograd.Function):
    """An activation rounded to int8 and back; the gradients are those of a learned step size (Esser et al., 2020).

    Where a value is inside the range, its gradient passes; step and zero point get theirs from rounding and clipping.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
        whole, step = float(zero.round()), float(scale)
        low, high = (-128 - whole) * step, (127 - whole) * step
        result = values.clamp(low, high).div_(step).round_().mul_(step)
        ctx.save_for_backward(values, result, scale)
        ctx.ends = low, high
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values, result, scale = ctx.saved_tensors
        gradient, passed = gradients[0], torch.ops.aten.hardtanh_backward(gradients[0], values, *ctx.ends)
        by_scale = (torch.dot(_flat(gradient), _flat(result)) - torch.dot(_flat(passed), _flat(values))) / scale
        return passed, by_scale, (passed.sum() - gradient.sum()) * scale


def _flat(values: torch.Tensor) -> torch.Tensor:
    return values.movedim(1, -1).reshape(-1)


class Prelu(torch.autograd.Function):
    """PReLU of fixed slopes: torch's own spends most of its backward pass on the slopes' gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(values, slope)
        return functional.prelu(values, slope.reshape(-1))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        values, slope = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(gradients[0], values, 0)
        return torch.addcmul(gradients[0] * slope, above, 1 - slope), None


class Student(nn.Module):
    """A float graph run by torch as its static int8 form would compute it.

    Weights are rounded per output channel, symmetrically to ±127 as AI Edge Quantizer does, from the largest weight anew
    at each step; the input and each operator's output to int8 with a range that is learnt. Changes of weights and biases
    count in int8 steps at the start, so that one rate fits every layer.
    """

    def __init__(self, path: Path, ranges: dict[str, list[float]] | None) -> None:
        super().__init__()
        self.model = flatbuffer_utils.read_model(str(path))
        self.graph = self.model.subgraphs[0]
        self.code = [c.builtinCode for c in self.model.operatorCodes]
        self.first, self.last = self.graph.inputs[0], self.graph.outputs[0]
        self.fixed: dict[int, torch.Tensor] = {}
        self.changes = nn.ParameterDict()
        self.steps: dict[str, torch.Tensor] = {}
        self.exact = ranges is None
        self.moves = nn.ParameterDict()
        self.start: dict[int, tuple[float, float]] = {}
        for tensor in [self.first, *(o.outputs[0] for o in self.graph.operators)]:
            if ranges is not None:
                self._range(tensor, *ranges[self.name(tensor)][2:])
        for operator in self.graph.operators:
            self._constants(operator)

    def name(self, tensor: int) -> str:
        raw = self.graph.tensors[tensor].name
        return raw.decode() if isinstance(raw, bytes) else raw

    def _range(self, tensor: int, low: float, high: float) -> None:
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-6) / 255
        self.start[tensor] = (scale, -128 - low / scale)
        self.moves[str(tensor)] = nn.Parameter(torch.zeros(2))

    def _constants(self, operator: schema.OperatorT) -> None:
        code = self.code[operator.opcodeIndex]
        convolution = code in (Op.CONV_2D, Op.DEPTHWISE_CONV_2D)
        for place, tensor in enumerate(operator.inputs):
            held = self.graph.tensors[tensor]
            if self.model.buffers[held.buffer].data is None or held.type != schema.TensorType.FLOAT32:
                continue
            values = torch.from_numpy(values_of(self.model, tensor).astype(np.float32))
            if convolution and place == 1:  # torch wants (outputs, inputs of a group, y, x)
                values = values.permute((3, 0, 1, 2) if code == Op.DEPTHWISE_CONV_2D else (0, 3, 1, 2)).contiguous()
                step = values.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-9) / 127
            elif convolution:
                step = torch.tensor(self.start.get(operator.outputs[0], (1.0, 0.0))[0])
            else:
                values = values.reshape(1, -1, 1, 1)
                if code != Op.PRELU and not self.exact:
                    values = constant_in_int8(values)
            self.fixed[tensor] = values
            if convolution and not self.exact:
                self.steps[str(tensor)] = step
                self.changes[str(tensor)] = nn.Parameter(torch.zeros_like(values))

    def constant(self, tensor: int) -> torch.Tensor:
        """A constant as it has become, before rounding."""
        key = str(tensor)
        if key not in self.changes:
            return self.fixed[tensor]
        return self.fixed[tensor] + self.steps[key] * self.changes[key]

    def scale_and_zero(self, tensor: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Step and zero point of an activation, as they have become."""
        scale, zero = self.start[tensor]
        move = self.moves[str(tensor)]
        return scale * move[:1].exp(), (zero + 255 * move[1:]).clamp(-128, 127)

    def rounded(self, tensor: int, values: torch.Tensor) -> torch.Tensor:
        """The activation in int8, as real numbers."""
        if self.exact:
            return values
        scale, zero = self.scale_and_zero(tensor)
        rounded: torch.Tensor = Round.apply(values, scale, zero)
        return rounded

    def weights(self, tensor: int) -> torch.Tensor:
        values = self.constant(tensor)
        if self.exact:
            return values
        step = values.detach().abs().amax((1, 2, 3)).clamp(min=1e-9) / 127
        zero = torch.zeros(len(step), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(values, step, zero, 0, -127, 127)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """(n, 3, 112, 112) RGB (x − 127.5) / 128 → (n, 192), not scaled."""
        live = {self.first: self.rounded(self.first, faces)}

        def value(tensor: int) -> torch.Tensor:
            return live[tensor] if tensor in live else self.constant(tensor)

        for operator in self.graph.operators:
            code, options = self.code[operator.opcodeIndex], operator.builtinOptions
            into, out = list(operator.inputs), operator.outputs[0]
            if code in (Op.CONV_2D, Op.DEPTHWISE_CONV_2D):
                result = self._convolve(live[into[0]], operator, self.weights(into[1]), self.constant(into[2]))
            elif code == Op.PRELU:
                result = Prelu.apply(live[into[0]], self.constant(into[1]))
            elif code == Op.RESHAPE:
                live[out] = live[into[0]].flatten(1)
                continue
            elif code in (Op.ADD, Op.MUL):
                result = value(into[0]) + value(into[1]) if code == Op.ADD else value(into[0]) * value(into[1])
            else:
                raise SystemExit(f"Operator {code} is not known here. Add it to distil.py.")
            if getattr(options, "fusedActivationFunction", 0) == schema.ActivationFunctionType.RELU:
                result = result.relu()
            live[out] = self.rounded(out, result)
        return live[self.last]

    def _convolve(
        self, values: torch.Tensor, operator: schema.OperatorT, weights: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        stride, size = operator.builtinOptions.strideH, weights.shape[-1]
        if operator.builtinOptions.padding == schema.Padding.SAME:  # the odd pixel goes to the bottom right
            missing = max((-(-values.shape[-1] // stride) - 1) * stride + size - values.shape[-1], 0)
            if missing % 2:
                values = functional.pad(values, (missing // 2, missing - missing // 2) * 2)
                missing = 0
        else:
            missing = 0
        groups = values.shape[1] // weights.shape[1]
        return functional.conv2d(values, weights, bias, stride, missing // 2, 1, groups)

    def write(self, target: Path) -> dict[str, list[float]]:
        """Writes the float graph with the weights as they have become; returns the ranges for `quantise.static`."""
        with torch.no_grad():
            for operator in self.graph.operators:
                for place, tensor in enumerate(operator.inputs):
                    if str(tensor) not in self.changes:
                        continue
                    values = self.constant(tensor).numpy()
                    if place == 1:
                        depthwise = self.code[operator.opcodeIndex] == Op.DEPTHWISE_CONV_2D
                        values = values.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
                    replace(self.model, tensor, values)
            flatbuffer_utils.write_model(self.model, str(target))
            found = {}
            for tensor in self.start:
                scale, zero = (float(value) for value in self.scale_and_zero(tensor))
                low = (-128 - round(zero)) * scale
                found[self.name(tensor)] = [low, low + 255 * scale] * 2
        return found


def constant_in_int8(values: torch.Tensor) -> torch.Tensor:
    """A constant that an ADD or a MUL reads, as AI Edge Quantizer rounds it: one step and zero point for all of it."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    step = max(high - low, 1e-9) / 255
    zero = round(-128 - low / step)
    return ((values / step).round().add(zero).clamp(-128, 127) - zero) * step
