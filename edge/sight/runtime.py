"""Loading and running a TensorFlow Lite file: the only module that knows LiteRT and tflite-runtime.

Before a file may see a picture it is checked against its card: SHA-256, shapes, types and quantisation. The bytes
that were hashed are the bytes that are run. Anything that differs is refused by name.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import SOFTWARE_FAULT, ModelRejected, RecordInvalid, RuntimeUnavailable
from edge.sight import card as cards
from edge.sight.card import Card, TensorCard, VariantCard

__all__ = ["Model", "RuntimeName", "Tensor", "load"]

RuntimeName = Literal["litert", "tflite-runtime"]

_STEPS = {
    "litert": "Run pip install ai-edge-litert",
    "tflite-runtime": "Use litert; tflite-runtime needs an environment of its own (docs/models.md)",
}
_STANDARD_ERROR = Lock()


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a loaded model.

    Attributes:
        index: the runtime's number for it.
        shape: with the batch, which is 1.
        dtype: of what is stored.
        scale: real = (stored − zero_point) · scale; 0 for a float tensor.
        zero_point: see scale.
    """

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    def real(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """What the stored values stand for, as float32."""
        if not self.scale:
            return stored.astype(np.float32, copy=False)
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class Model:
    """One checked file, ready to run, on one thread of control.

    Not safe to share between threads: the interpreter owns one set of tensors.

    Attributes:
        card: the pack's card.
        variant: the variant's part of it.
        reference: ``pack:variant``.
        digest: SHA-256 of the file, hexadecimal.
        runtime: which runtime executes it.
        input: the input tensor, (1, height, width, 3).
        outputs: the output tensors in the card's order.
    """

    def __init__(
        self, reference: str, card: Card, variant: VariantCard, *, path: Path, runtime: RuntimeName, interpreter: Any
    ) -> None:
        self.card = card
        self.variant = variant
        self.reference = reference
        self.digest = variant.sha256
        self.runtime = runtime
        self._interpreter = interpreter
        self.input = _checked(path, "input", [variant.input], interpreter.get_input_details())[0]
        self.outputs = _checked(path, "output", variant.outputs, interpreter.get_output_details())
        self._table = _grey_levels(card, self.input)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture it takes, pixels."""
        return self.input.shape[2], self.input.shape[1]

    def run(self, picture: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """Runs the model on one picture.

        Args:
            picture: (height, width, 3) uint8 BGR of exactly the model's size; normalised and quantised here as the
                card demands.

        Returns:
            The stored values of each output, in the card's order, without the batch dimension; copies.

        Raises:
            RecordInvalid: the picture has another shape or type.
        """
        if picture.shape != self.input.shape[1:] or picture.dtype != np.uint8:
            raise RecordInvalid(
                f"input of {self.reference}",
                f"must be uint8{list(self.input.shape[1:])}, got {picture.dtype}{list(picture.shape)}",
                SOFTWARE_FAULT,
            )
        ready: NDArray[Any] = picture
        if self.card.input.colour == "RGB":
            ready = cv2.cvtColor(ready, cv2.COLOR_BGR2RGB)
        # Straight into the runtime's memory: what is not copied need not be erased.
        tensor = self._interpreter.tensor(self.input.index)()[0]
        if self._table is not None:
            cv2.LUT(ready, self._table, dst=tensor)
        else:
            np.subtract(ready, np.float32(self.card.input.mean), out=tensor)
            np.multiply(tensor, np.float32(1 / self.card.input.divisor), out=tensor)
        del tensor  # the runtime refuses to run while somebody holds its memory
        self._interpreter.invoke()
        return tuple(self._interpreter.get_tensor(tensor.index)[0] for tensor in self.outputs)

    def flush(self) -> None:
        """Leaves nothing of the last picture behind in the runtime's memory.

        The input is overwritten and the model run once on zeros, which overwrites every activation that the last
        picture left in the arena. Costs one run.
        """
        self._interpreter.tensor(self.input.index)()[...] = self.input.zero_point
        self._interpreter.invoke()


def load(
    reference: str,
    *,
    directory: Path | None = None,
    kind: Literal["detector", "embedder"] | None = None,
    runtime: RuntimeName = "litert",
    threads: int = 1,
    delegate: Path | None = None,
) -> Model:
    """Loads one variant of a pack, after checking everything that its card says.

    Args:
        reference: ``pack:variant``, for example ``mobilefacenet:dynamic-int8``.
        directory: folder of packs; None for those that ship with LFR Edge.
        kind: what it is to be used as; a pack of the other kind is refused.
        runtime: ``litert`` (Google's continuation) or ``tflite-runtime`` (2.14, its last release).
        threads: CPU threads, 1 or more.
        delegate: shared library of an external delegate (an accelerator), or None for the CPU through XNNPACK.

    Raises:
        ModelRejected: the card or the file is missing or not what the card says.
        RuntimeUnavailable: the runtime is not installed, or the delegate does not load.
    """
    pack, name = cards.split(reference)
    folder = (directory or cards.default_directory()) / pack
    card = cards.read(folder)
    if kind is not None and card.kind != kind:
        raise ModelRejected(
            f"model '{reference}'", f"its card says that it is a {card.kind}", f"Name a pack of kind {kind}"
        )
    variant = card.variants.get(name)
    if variant is None:
        raise ModelRejected(
            f"model '{reference}'",
            f"the pack has no such variant; it has {', '.join(card.variants)}",
            "Name one of those",
        )
    path = folder / variant.file
    content = _content(path, variant)
    interpreter = _interpreter(path, content, runtime, threads, delegate)
    return Model(reference, card, variant, path=path, runtime=runtime, interpreter=interpreter)


def _content(path: Path, variant: VariantCard) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        step = "Copy the whole pack" if variant.shipped else "Run scripts/build-models: this reference is not shipped"
        raise ModelRejected(str(path), "the model file does not exist", step) from error
    except OSError as error:
        raise ModelRejected(
            str(path), f"the model file cannot be read ({error.strerror})", "Check who owns it"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != variant.sha256:
        raise ModelRejected(
            str(path),
            f"its SHA-256 is {digest[:16]}…, the card says {variant.sha256[:16]}…",
            "Do not use it: fetch the pack again, or build it with scripts/build-models",
        )
    return content


def _library(runtime: RuntimeName) -> Any:
    """Only the runtime that is asked for: a van need not have both."""
    if runtime == "litert":
        from ai_edge_litert import interpreter  # noqa: PLC0415 - see above
    else:
        if int(np.__version__.partition(".")[0]) > 1:
            raise ImportError("its last release was built for numpy 1")
        from tflite_runtime import interpreter  # noqa: PLC0415 - see above
    return interpreter


def _interpreter(path: Path, content: bytes, runtime: RuntimeName, threads: int, delegate: Path | None) -> Any:
    try:
        library = _library(runtime)
    except ImportError as error:
        raise RuntimeUnavailable(f"runtime {runtime}", f"it cannot be imported ({error})", _STEPS[runtime]) from error
    delegates = []
    if delegate is not None:
        if not delegate.is_file():
            raise RuntimeUnavailable(f"delegate {delegate}", "there is no such library", "Give the library's path")
        try:
            delegates.append(library.load_delegate(str(delegate)))
        except (OSError, ValueError, RuntimeError) as error:
            raise RuntimeUnavailable(
                f"delegate {delegate}", f"it does not load ({error})", "Check the driver, or run on the CPU"
            ) from error
    try:
        with _without_greetings():
            interpreter = library.Interpreter(
                model_content=content, num_threads=threads, experimental_delegates=delegates or None
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or ["no reason given"])[0]
        raise ModelRejected(
            str(path), f"{runtime} cannot load it ({first})", "Use the other runtime, or build the pack again"
        ) from error
    return interpreter


@contextmanager
def _without_greetings() -> Iterator[None]:
    """Keep back what the runtimes say from C++ that is no news; whatever else is said meanwhile comes after it."""
    with _STANDARD_ERROR:
        sys.stderr.flush()
        kept, said = os.dup(2), os.memfd_create("runtime")
        os.dup2(said, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            with os.fdopen(said, "rb") as lines:
                lines.seek(0)
                for line in lines:
                    if not line.startswith(b"INFO: "):
                        os.write(2, line)


def _checked(
    path: Path, side: str, expected: tuple[TensorCard, ...] | list[TensorCard], found: list[dict[str, Any]]
) -> tuple[Tensor, ...]:
    """Pairs what the card says with what the file has, by name if all names are there, else in order."""
    if len(found) != len(expected):
        raise ModelRejected(
            str(path), f"it has {len(found)} {side}s, the card says {len(expected)}", "Correct the card or the file"
        )
    by_name = {detail["name"]: detail for detail in found}
    in_order = [by_name[c.name] for c in expected] if all(c.name in by_name for c in expected) else found
    tensors = []
    for said, detail in zip(expected, in_order, strict=True):
        scale, zero_point = detail["quantization"]
        tensor = Tensor(
            index=int(detail["index"]),
            shape=tuple(int(n) for n in detail["shape"]),
            dtype=np.dtype(detail["dtype"]),
            scale=float(scale),
            zero_point=int(zero_point),
        )
        for what, have, want in (
            ("shape", tensor.shape, said.shape),
            ("type", tensor.dtype.name, said.dtype),
            ("scale", f"{tensor.scale:.6g}", f"{said.scale or 0.0:.6g}"),
            ("zero point", tensor.zero_point, said.zero_point or 0),
        ):
            if have != want:
                raise ModelRejected(
                    str(path),
                    f"the {what} of {side} '{said.name}' is {have}, the card says {want}",
                    "Correct the card or the file",
                )
        tensors.append(tensor)
    return tuple(tensors)


def _grey_levels(card: Card, tensor: Tensor) -> NDArray[Any] | None:
    """(256,): what an integer tensor stores for each grey level: normalised and quantised in one look-up."""
    if not tensor.scale:
        return None
    real = (np.arange(256, dtype=np.float64) - card.input.mean) / card.input.divisor
    limits = np.iinfo(tensor.dtype)
    stored = np.clip(np.rint(real / tensor.scale) + tensor.zero_point, limits.min, limits.max)
    return np.asarray(stored, tensor.dtype)
