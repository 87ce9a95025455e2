"""Where the van is: a fixed site from the configuration, or the satellite receiver through gpsd.

gpsd speaks JSON lines on TCP port 2947 (gpsd_json(5)): after ``?WATCH`` it sends a ``TPV`` object for every
fix, with ``mode`` 2 or 3 once there is one, ``lat`` and ``lon`` in degrees and the horizontal error ``eph`` in
metres (95 %).
"""

from __future__ import annotations

import json
import math
import socket
import threading
from datetime import datetime
from typing import Any, Protocol, TypeGuard

from edge.clock import Clock
from edge.trust.place import Position

__all__ = ["FixedSite", "Nowhere", "SatelliteReceiver", "Whereabouts"]

WATCH = b'?WATCH={"enable":true,"json":true};\n'
AGAIN_S = 2.0
SILENCE_S = 10.0
UNKNOWN_ERROR_M = 50.0
"""Taken for a fix whose error gpsd does not know: a street, not a house."""
LONGEST_LINE = 65_536


class Whereabouts(Protocol):
    """What a deployment asks."""

    def position(self, now: datetime) -> Position | None:
        """Where the van is as far as is known; None when it is not."""
        ...


class FixedSite:
    """A van that does not move, or a post: where the configuration says.

    Args:
        latitude, longitude: degrees.
    """

    def __init__(self, latitude: float, longitude: float) -> None:
        self._latitude = latitude
        self._longitude = longitude

    def position(self, now: datetime) -> Position | None:
        return Position(self._latitude, self._longitude, 0.0, now)


class Nowhere:
    """No position is configured: nothing that is bound to a place may run."""

    def position(self, now: datetime) -> Position | None:  # noqa: ARG002 - the protocol's signature
        return None


class SatelliteReceiver:
    """Listens to gpsd in a thread of its own and keeps the last fix; comes back by itself when gpsd does.

    Args:
        address: ``host:port`` of gpsd.
        clock: stamps each fix on arrival: the receiver's own time is not needed and not believed.
    """

    def __init__(self, address: str, clock: Clock) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host or "localhost", int(port))
        self._clock = clock
        self._last: Position | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="satellites", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(timeout=SILENCE_S + 1)

    def position(self, now: datetime) -> Position | None:  # noqa: ARG002 - its age says how old it is
        return self._last

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with socket.create_connection(self._address, timeout=SILENCE_S) as link:
                    link.sendall(WATCH)
                    link.settimeout(1.0)
                    self._listen(link)
            except OSError:
                pass
            self._stop.wait(AGAIN_S)

    def _listen(self, link: socket.socket) -> None:
        waiting = b""
        while not self._stop.is_set():
            try:
                part = link.recv(4096)
            except TimeoutError:
                continue
            if not part or len(waiting) > LONGEST_LINE:
                return
            *lines, waiting = (waiting + part).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            said: Any = json.loads(line)
        except ValueError:
            return
        if not isinstance(said, dict) or said.get("class") != "TPV":
            return
        latitude, longitude = said.get("lat"), said.get("lon")
        if said.get("mode", 0) < 2 or not _is_number(latitude) or not _is_number(longitude):
            return
        error = said.get("eph")
        accuracy = float(error) if _is_number(error) else UNKNOWN_ERROR_M
        self._last = Position(float(latitude), float(longitude), accuracy, self._clock.now())


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
