"""Where the van is: a real gpsd fed with a recorded drive."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.system.position import FixedSite, Nowhere, SatelliteReceiver
from edge.trust.place import distance_m

HERE = (51.5105, -0.1301)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def sentence(body: str) -> str:
    checksum = 0
    for letter in body.encode():
        checksum ^= letter
    return f"${body}*{checksum:02X}\r\n"


def drive(seconds: int) -> str:
    """A receiver's words while it stands still at HERE: position, fix, satellites."""
    latitude, longitude = f"{int(HERE[0]):02d}{HERE[0] % 1 * 60:07.4f}", f"{0:03d}{-HERE[1] * 60:07.4f}"
    words = []
    for second in range(seconds):
        at = f"1200{second % 60:02d}.00"
        words.append(sentence(f"GPGGA,{at},{latitude},N,{longitude},W,1,09,0.9,20.0,M,47.0,M,,"))
        words.append(sentence("GPGSA,A,3,04,05,09,12,24,25,29,31,32,,,,1.6,0.9,1.3"))
        words.append(sentence(f"GPRMC,{at},A,{latitude},N,{longitude},W,0.0,0.0,010326,,,A"))
    return "".join(words)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def gpsfake(tmp_path: Path) -> Iterator[int]:
    """gpsd, fed by gpsfake; yields its port."""
    if shutil.which("gpsfake") is None or shutil.which("gpsd") is None:
        pytest.skip("gpsd and gpsd-clients are not installed here")
    recording = tmp_path / "drive.nmea"
    recording.write_text(drive(60))
    port = free_port()
    process = subprocess.Popen(
        ["gpsfake", "-q", "-c", "0.1", "-P", str(port), str(recording)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield port
    os.killpg(process.pid, 15)
    process.wait(timeout=10)


def test_the_position_comes_from_a_real_gpsd(gpsfake: int) -> None:
    receiver = SatelliteReceiver(f"127.0.0.1:{gpsfake}", SystemClock())
    receiver.start()
    try:
        assert wait_for(lambda: receiver.position(NOW) is not None), "gpsd gave no fix"
        found = receiver.position(NOW)
        assert found is not None
        assert distance_m((found.latitude, found.longitude), HERE) < 5
        assert 0 < found.accuracy_m <= 100
        assert abs(datetime.now(UTC) - found.at) < timedelta(seconds=5)
    finally:
        receiver.stop()


class Speaker:
    """A server that says what a test wants gpsd to say."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.connection: socket.socket | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        self.connection, _ = self._server.accept()

    def say(self, *lines: bytes) -> None:
        assert wait_for(lambda: self.connection is not None)
        assert self.connection is not None
        self.connection.sendall(b"".join(line + b"\n" for line in lines))

    def close(self) -> None:
        self._server.close()
        if self.connection is not None:
            self.connection.close()


def tpv(**fields: object) -> bytes:
    return json.dumps({"class": "TPV", "mode": 3, "lat": 1.0, "lon": 2.0, "eph": 7.5, **fields}).encode()


def test_words_that_are_no_fix_do_not_move_the_van() -> None:
    speaker = Speaker()
    receiver = SatelliteReceiver(f"127.0.0.1:{speaker.port}", SystemClock())
    receiver.start()
    try:
        assert receiver.position(NOW) is None
        speaker.say(b"nonsense", b'["list"]', tpv(mode=1, lat=9.0), tpv(lat="51"), tpv(), tpv(mode=1, lat=9.0))
        assert wait_for(lambda: receiver.position(NOW) is not None)
        found = receiver.position(NOW)
        assert found is not None
        assert (found.latitude, found.longitude, found.accuracy_m) == (1.0, 2.0, 7.5)
        # An old fix keeps its age: the gate refuses it after half a minute.
        assert abs(datetime.now(UTC) - found.at) < timedelta(seconds=20)
    finally:
        receiver.stop()
        speaker.close()


def test_a_fixed_site_is_always_where_it_is() -> None:
    found = FixedSite(51.5, -0.1).position(NOW)
    assert found is not None
    assert (found.latitude, found.longitude, found.accuracy_m, found.at) == (51.5, -0.1, 0.0, NOW)
    assert Nowhere().position(NOW) is None
