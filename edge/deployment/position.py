"""The van's position from gpsd, which looks after the satellite receiver.

gpsd's protocol is one JSON object per line over TCP (``gpsd_json(5)``): after ``?WATCH`` it sends a ``TPV``
report about once a second. A report counts when it has a fix in two dimensions at least (``mode`` 2 or 3).
"""

from __future__ import annotations

import json
import math
import socket
import threading
from datetime import UTC, datetime
from typing import Any, Protocol

from edge.clock import NS_PER_S, Clock
from edge.trust.place import Position
from edge.worker import Supervisor, Worker

__all__ = ["FixedSite", "Gpsd", "PositionSource"]

WATCH = b'?WATCH={"enable":true,"json":true};\n'
RETRY_S = 2.0
TIMEOUT_S = 5.0
MAX_LINE = 65_536
SILENT_S = 60.0
"""Looking up a name and connecting may take long; a fix that is older than half a minute is refused anyway."""
UNKNOWN_ACCURACY_M = 25.0
"""What an ordinary receiver keeps to when it reports no error estimate (NMEA receivers often do not)."""
SAID_S = 2.0
"""gpsd reports once a second."""
NO_FIX = 2
LARGEST = 1e9
"""No degree, metre or mode is as large."""


class PositionSource(Protocol):
    """Whatever knows where the van is."""

    def position(self) -> Position | None:
        """The newest position; None when it is not known."""
        ...


class FixedSite:
    """A van, or a mast, that stands where its configuration says.

    Args:
        latitude: degrees, north positive.
        longitude: degrees, east positive.
        clock: stamps each answer: a fixed site is always up to date.
    """

    def __init__(self, latitude: float, longitude: float, clock: Clock) -> None:
        self._latitude, self._longitude, self._clock = latitude, longitude, clock

    def position(self) -> Position:
        return Position(self._latitude, self._longitude, 0.0, self._clock.now())


class Gpsd:
    """Listens to gpsd in a worker and keeps the newest position.

    Args:
        clock: stamps each report on arrival. The receiver's own time is not used for that: an age must not
            depend on two clocks.
        host: where gpsd is.
        port: its TCP port.
    """

    def __init__(self, clock: Clock, *, host: str = "127.0.0.1", port: int = 2947) -> None:
        self._clock = clock
        self._address = (host, port)
        self._lock = threading.Lock()
        self._newest: Position | None = None
        self._satellite_time: datetime | None = None
        self._said_ns = 0
        self._worker: Worker | None = None

    def start(self, workers: Supervisor) -> None:
        """Begin to listen; gpsd may come and go."""
        self._worker = workers.start("position", self._run, silent_s=SILENT_S)

    def stop(self) -> None:
        """Listen no more, and forget the position."""
        if self._worker is not None:
            self._worker.stop(TIMEOUT_S + 1)
            self._worker = None
        with self._lock:
            self._newest = None

    def position(self) -> Position | None:
        """The newest position; None before the first fix and while there is none."""
        with self._lock:
            return self._newest

    def satellite_time(self) -> datetime | None:
        """What the satellites say the time is, UTC; None when they have said nothing for two seconds.

        It confirms a clock that nothing else sets, so what was said a while ago must not vouch for now.
        """
        with self._lock:
            fresh = self._clock.monotonic_ns() - self._said_ns <= SAID_S * NS_PER_S
            return self._satellite_time if fresh else None

    def _run(self, worker: Worker) -> None:
        while not worker.stopping:
            try:
                with socket.create_connection(self._address, timeout=TIMEOUT_S) as connection:
                    connection.sendall(WATCH)
                    self._listen(connection, worker)
            except OSError:
                pass
            with self._lock:
                self._newest = None
            worker.wait(RETRY_S)

    def _listen(self, connection: socket.socket, worker: Worker) -> None:
        with connection.makefile("rb") as lines:
            while not worker.stopping:
                worker.beat()
                line = lines.readline(MAX_LINE)
                if not line:
                    return
                self.take_line(line)

    def take_line(self, line: bytes) -> None:
        """Take in one line of gpsd's; what is none is passed over."""
        try:
            report = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(report, dict) and report.get("class") == "TPV":
            self._take(report)

    def _take(self, report: dict[str, Any]) -> None:
        found = _position(report, self._clock.now())
        with self._lock:
            self._newest = found
            if found is not None and isinstance(report.get("time"), str):
                self._satellite_time = _time(report["time"])
                self._said_ns = self._clock.monotonic_ns()


def _position(report: dict[str, Any], now: datetime) -> Position | None:
    mode, latitude, longitude = report.get("mode"), report.get("lat"), report.get("lon")
    if not isinstance(mode, int) or mode < NO_FIX:
        return None
    if not (_is_number(latitude) and _is_number(longitude)):
        return None
    errors = [report.get("epx"), report.get("epy")]
    eph = report.get("eph")
    if _is_number(eph):
        accuracy = float(eph)  # type: ignore[arg-type]
    elif all(_is_number(error) for error in errors):
        accuracy = math.hypot(*errors)  # type: ignore[arg-type]
    else:
        accuracy = UNKNOWN_ACCURACY_M
    return Position(float(latitude), float(longitude), accuracy, now)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    # Bounded, so that neither infinity nor an integer that no float can hold comes through.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
