"""How a page's process is told to end."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self

__all__ = ["Signals"]


class Signals:
    """SIGTERM and SIGINT while this is entered: they ask the main thread to end.

    Attributes:
        end: set once one came.
        interrupted: whether it was Ctrl-C.
    """

    def __init__(self) -> None:
        self.end = threading.Event()
        self.interrupted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, _: object) -> None:
        self.interrupted = number == signal.SIGINT
        self.end.set()
