"""The one place in which a pixel, a chip, an embedding or a template may live.

A :class:`Biometric` owns one array, has a deadline, shows nothing of itself and can be overwritten.
Handles are given out by :class:`edge.custody.retention.Custodian`, which sweeps what is overdue.

What this can and cannot promise: ``erase`` overwrites the one buffer that the handle owns. A library
may have copied the values while it worked (a resize, a blob, a model's arena). Those copies live in
buffers that the stages reuse and scrub, and ``tests/test_forgetting.py`` scans the process's own memory
for a planted canary to find the ones that do not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Any, NoReturn, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from edge.clock import NS_PER_MS, Clock
from edge.errors import SOFTWARE_FAULT, BiometricErased, RecordInvalid
from edge.records import CHIP_SIZES, ErasureCause

__all__ = ["LONGEST_MS", "Biometric", "Kind"]

LONGEST_MS = 3_000
"""Whatever was made of a face is gone so long after the last picture of that face arrived, however slow or stuck the
machine is. The public notice says this number. Only the probe picture of an alert that is being made may be later."""


class Kind(Enum):
    """What a handle holds, and so how long it may live.

    The limits follow the design: a frame is gone once processed, a chip once embedded, an embedding
    once folded into its track's template; a template when its track has ended, at the latest 3 s after it was last
    needed. :data:`LONGEST_MS` counts from the picture and cuts these short. A probe is the face picture of an alert
    that is being made.
    """

    FRAME = ("frame", 2_000)
    CHIP = ("chip", 1_000)
    EMBEDDING = ("embedding", 1_000)
    TEMPLATE = ("template", LONGEST_MS)
    PROBE = ("probe picture", 5_000)

    def __init__(self, label: str, limit_ms: int) -> None:
        self.label = label
        self.limit_ns = limit_ms * NS_PER_MS


def _check(kind: Kind, array: NDArray[Any]) -> None:
    match kind:
        case Kind.FRAME | Kind.PROBE:
            good = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0
            must = "uint8[H, W, 3]"
        case Kind.CHIP:
            good = array.dtype == np.uint8 and array.shape in {(n, n, 3) for n in CHIP_SIZES.values()}
            must = " or ".join(f"uint8[{n}, {n}, 3]" for n in CHIP_SIZES.values())
        case _:
            good = array.dtype == np.float32 and array.ndim == 1 and array.size > 0
            must = "float32[d]"
    if not good:
        raise RecordInvalid(f"a {kind.label}", f"must be {must}, got {array.dtype}{list(array.shape)}", SOFTWARE_FAULT)
    if not (array.flags.owndata and array.flags.writeable and array.flags.c_contiguous):
        raise RecordInvalid(
            f"a {kind.label}",
            "must own its memory, be writeable and contiguous, or erasing it would leave a copy",
            SOFTWARE_FAULT,
        )


class Biometric:
    """One array with a deadline. Use it as a context manager wherever its life is one block.

    Args:
        kind: what it is; sets the limit.
        array: adopted without a copy; must own its memory. The caller keeps no other reference.
        clock: for deadlines.
        track_id: the passage it belongs to; None for a frame.
        seen_ns: when the last picture of that passage arrived, on ``clock``'s monotonic scale.
        on_erased: called once, with this handle and the cause, after it was overwritten.

    Raises:
        RecordInvalid: wrong shape or dtype, or memory that is not the array's own.
    """

    __slots__ = (
        "__weakref__",
        "_array",
        "_clock",
        "_lock",
        "_on_erased",
        "created_ns",
        "deadline_ns",
        "erased_ns",
        "kind",
        "track_id",
    )

    def __init__(
        self,
        kind: Kind,
        array: NDArray[Any],
        clock: Clock,
        *,
        track_id: UUID | None = None,
        seen_ns: int | None = None,
        on_erased: Callable[[Biometric, ErasureCause], None] | None = None,
    ) -> None:
        _check(kind, array)
        self.kind = kind
        self.track_id = track_id
        self.created_ns = clock.monotonic_ns()
        self.deadline_ns = self._latest(self.created_ns, seen_ns)
        self.erased_ns: int | None = None
        self._array: NDArray[Any] | None = array
        self._clock = clock
        self._on_erased = on_erased
        self._lock = threading.Lock()

    @property
    def array(self) -> NDArray[Any]:
        """The live array itself, not a copy. Do not keep it beyond the statement that needs it.

        Raises:
            BiometricErased: it was erased, or its deadline has passed (then it is erased now).
        """
        if self._array is not None and self.overdue():
            self.erase(ErasureCause.OVERDUE)
        array = self._array
        if array is None:
            raise BiometricErased(f"this {self.kind.label}", "has been erased", SOFTWARE_FAULT)
        return array

    @property
    def erased(self) -> bool:
        return self._array is None

    def overdue(self) -> bool:
        """Whether it still lives past its deadline."""
        return self._array is not None and self._clock.monotonic_ns() > self.deadline_ns

    def _latest(self, now_ns: int, seen_ns: int | None) -> int:
        own = now_ns + self.kind.limit_ns
        if seen_ns is None or self.kind is Kind.PROBE:
            return own
        return min(own, seen_ns + LONGEST_MS * NS_PER_MS)

    def needed(self, seen_ns: int | None = None) -> None:
        """Start the limit anew: a picture that arrived at ``seen_ns`` was folded into it. Only a template may.

        Raises:
            RecordInvalid: for any other kind; their limit counts from when they were made.
            BiometricErased: it is gone already.
        """
        if self.kind is not Kind.TEMPLATE:
            raise RecordInvalid(f"a {self.kind.label}", "has one fixed limit", SOFTWARE_FAULT)
        with self._lock:
            if self._array is None:
                raise BiometricErased("this template", "has been erased", SOFTWARE_FAULT)
            self.deadline_ns = self._latest(self._clock.monotonic_ns(), seen_ns)

    def erase(self, cause: ErasureCause = ErasureCause.USED) -> None:
        """Overwrite in place and let go. Safe to call twice and from any thread."""
        with self._lock:
            array = self._array
            if array is None:
                return
            array.fill(0)
            self._array = None
            self.erased_ns = self._clock.monotonic_ns()
        if self._on_erased is not None:
            self._on_erased(self, cause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.erase(ErasureCause.USED)

    def __del__(self) -> None:
        array = getattr(self, "_array", None)
        if array is not None:
            array.fill(0)

    def __repr__(self) -> str:
        return f"<{self.kind.label} {'erased' if self.erased else 'live'}>"

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(f"a {self.kind.label} cannot be copied, pickled or turned into another array")

    __reduce__ = __reduce_ex__ = __copy__ = __deepcopy__ = __array__ = __iter__ = __bytes__ = _refuse
