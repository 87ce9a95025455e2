"""Rounding chosen for the output instead of weight by weight (GPTQ: Frantar et al. 2022), tried and not shipped.

The rounding error of one input channel's weights is made up by those that are not yet rounded, as far as the channels
go together on calibration inputs. It needs no label, but its result is a choice for each weight: to be rebuilt without
faces, all of them would have to be kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import calibration
import numpy as np
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffer import Op
from mobilefacenet import is_pointwise, replace, values_of

DAMP = 0.01  # of the mean square input, against channels that hardly ever differ from zero


def gptq(source: Path, target: Path, inputs: Iterable[np.ndarray]) -> None:
    """Writes the float graph with the weights of its 1×1 convolutions on the grid that int8 will have."""
    model = flatbuffer_utils.read_model(str(source))
    graph = model.subgraphs[0]
    wanted = {
        graph.tensors[o.inputs[0]].name.decode(): o.inputs[1]
        for o in graph.operators
        if model.operatorCodes[o.opcodeIndex].builtinCode == Op.CONV_2D and is_pointwise(model, o)
    }
    moments = calibration.second_moments(source, inputs, wanted)
    for name, weights in wanted.items():
        values = values_of(model, weights)
        rounded = round_rows(values.reshape(values.shape[0], -1), moments[name])
        replace(model, weights, rounded.reshape(values.shape))
    flatbuffer_utils.write_model(model, str(target))


def round_rows(weights: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Weights (outputs, inputs) as multiples of each output's int8 step, given E[x xᵀ] of the inputs."""
    step = np.maximum(np.abs(weights).max(1), 1e-12) / 127
    size = len(moments)
    damped = moments + np.eye(size) * DAMP * np.mean(np.diag(moments))
    order = np.argsort(-np.diag(damped), kind="stable")
    left = weights[:, order].copy()
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    chosen = np.empty_like(left)
    for i in range(size):
        chosen[:, i] = np.clip(np.rint(left[:, i] / step), -127, 127) * step
        error = (left[:, i] - chosen[:, i]) / upper[i, i]
        left[:, i + 1 :] -= error[:, None] * upper[i, i + 1 :]
    return chosen[:, np.argsort(order)]
