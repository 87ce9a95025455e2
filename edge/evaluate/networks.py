"""What the networks cost: their runs, the time inside them, and the multiply-adds of their files."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from edge.sight.runtime import Model

__all__ = ["Networks", "multiply_adds"]


def multiply_adds(model: Model) -> int:
    """Multiply-adds of one run, counted from the operators of the model's own file.

    Convolutions, depthwise and transposed ones, and fully connected layers; what only adds or compares is left out.
    """
    interpreter = cast("Any", model)._interpreter  # noqa: SLF001 (only measured here; no stage asks for it)
    shapes = {one["index"]: [int(n) for n in one["shape"]] for one in interpreter.get_tensor_details()}
    total = 0
    for operator in interpreter._get_ops_details():  # noqa: SLF001 (the runtime has no public way)
        name, inputs, outputs = operator["op_name"], operator["inputs"], operator["outputs"]
        if name == "CONV_2D":  # weights: out, height, width, in
            total += int(np.prod(shapes[outputs[0]])) * int(np.prod(shapes[inputs[1]][1:]))
        elif name == "DEPTHWISE_CONV_2D":  # weights: 1, height, width, out
            total += int(np.prod(shapes[outputs[0]])) * int(np.prod(shapes[inputs[1]][1:3]))
        elif name == "TRANSPOSE_CONV":  # inputs: shape, weights (out, height, width, in), picture
            total += int(np.prod(shapes[inputs[2]])) * int(np.prod(shapes[inputs[1]][:3]))
        elif name == "FULLY_CONNECTED":  # weights: out, in
            total += int(np.prod(shapes[outputs[0]])) * shapes[inputs[1]][-1]
    return total


class Networks:
    """Time inside the networks and their runs, by model."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.runs: Counter[str] = Counter()
        self.cost: dict[str, int] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count every run and every flush of every model meanwhile."""
        run, flush = Model.run, Model.flush

        def counted(work: Callable[..., Any]) -> Callable[..., Any]:
            def call(model: Model, *arguments: Any, **named: Any) -> Any:
                if model.reference not in self.cost:
                    self.cost[model.reference] = multiply_adds(model)
                begun = time.perf_counter()
                try:
                    return work(model, *arguments, **named)
                finally:
                    self.seconds += time.perf_counter() - begun
                    self.runs[model.reference] += 1

            return call

        Model.run, Model.flush = counted(run), counted(flush)  # type: ignore[method-assign]
        try:
            yield
        finally:
            Model.run, Model.flush = run, flush  # type: ignore[method-assign]
