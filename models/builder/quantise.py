"""Float graph to int8 graph with AI Edge Quantizer, from stored ranges: no picture is needed here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.recipe import AlgorithmName


def dynamic(
    source: Path, target: Path, operators: Iterable[str] = ("CONV_2D",), keep_float: Iterable[str] = ()
) -> None:
    """Int8 weights per output channel; activations stay float and are quantised as each operator runs.

    XNNPACK gives each row that a 1×1 convolution reads, which is one pixel's channels, a scale of its own. Operators whose
    output is named in `keep_float` stay float.
    """
    work = quantizer.Quantizer(str(source))
    for operator in operators:
        work.add_dynamic_config(regex=".*", operation_name=qtyping.TFLOperationName(operator), num_bits=8)
        for name in keep_float:
            _keep(work, name, qtyping.TFLOperationName(operator))
    _write(work.quantize(enable_progress_report=False), target)


def static(
    source: Path,
    ranges: dict[str, list[float]],
    target: Path,
    *,
    percentile: bool = False,
    keep_float: Iterable[str] = (),
) -> None:
    """Int8 weights per output channel and int8 activations throughout, input and output included.

    Convolutions whose output is named in `keep_float` stay float, between a DEQUANTIZE and a QUANTIZE.
    """
    work = quantizer.Quantizer(str(source))
    work.add_static_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        activation_num_bits=8,
        weight_num_bits=8,
        algorithm_key=AlgorithmName.MIN_MAX_UNIFORM_QUANT,
    )
    for name in keep_float:
        _keep(work, name, qtyping.TFLOperationName.CONV_2D)
    low, high = (2, 3) if percentile else (0, 1)
    statistics = {
        name: {"min": np.array([[row[low]]], np.float32), "max": np.array([[row[high]]], np.float32)}
        for name, row in ranges.items()
    }
    _write(work.quantize(statistics, enable_progress_report=False), target)


def _keep(work: quantizer.Quantizer, name: str, operator: qtyping.TFLOperationName) -> None:
    work.update_quantization_recipe(
        regex=f"^{re.escape(name)};?$", operation_name=operator, algorithm_key=AlgorithmName.NO_QUANTIZE
    )


def _write(result: quantizer.QuantizationResult, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(bytes(result.quantized_model))
