"""Where the van is, from a real gpsd that is fed by gpsfake."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.system.position import FixedSite, Nowhere, SatelliteReceiver
from edge.trust.place import Position
from tests.broker import free_port

NEEDED = pytest.mark.skipif(shutil.which("gpsfake") is None, reason="gpsfake is not installed: run scripts/setup")


def sentence(body: str) -> str:
    """An NMEA 0183 sentence with its checksum: the exclusive or of all its characters."""
    total = 0
    for character in body:
        total ^= ord(character)
    return f"${body}*{total:02X}\r\n"


def a_log(path: Path) -> Path:
    """A minute in High Street: 51.5000 N, 0.1250 W, as a receiver says it once a second."""
    lines = []
    for second in range(60):
        at = f"1201{second:02d}.00"
        lines.append(sentence(f"GPGGA,{at},5130.0000,N,00007.5000,W,1,08,0.9,35.0,M,47.0,M,,"))
        lines.append(sentence("GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.5,0.9,1.2"))
        lines.append(sentence(f"GPRMC,{at},A,5130.0000,N,00007.5000,W,000.0,000.0,010326,,,A"))
    path.write_text("".join(lines), newline="")
    return path


@pytest.fixture
def gpsd(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        ["gpsfake", "-q", "-c", "0.1", "-P", str(port), str(a_log(tmp_path / "street.nmea"))],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def first_position(receiver: SatelliteReceiver, seconds: float) -> Position | None:
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while time.monotonic() < deadline:
        found = receiver.position(datetime.now(UTC))
        if found is not None:
            return found
        waiting.wait(0.05)
    return None


@NEEDED
def test_a_fix_of_the_receiver_becomes_the_vans_position(gpsd: str) -> None:
    receiver = SatelliteReceiver(gpsd, SystemClock())
    receiver.start()
    found = first_position(receiver, 25)
    receiver.stop()
    assert found is not None
    assert found.latitude == pytest.approx(51.5, abs=1e-4)
    assert found.longitude == pytest.approx(-0.125, abs=1e-4)
    assert 0 < found.accuracy_m < 100
    assert (datetime.now(UTC) - found.at).total_seconds() < 30


def test_no_receiver_is_no_position_and_no_error() -> None:
    receiver = SatelliteReceiver(f"127.0.0.1:{free_port()}", SystemClock())
    receiver.start()
    assert first_position(receiver, 0.3) is None
    receiver.stop()


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1, 2]",
        b'{"class": "TPV", "mode": 1}',
        b'{"class": "TPV", "mode": 3, "lat": 51.5}',
        b'{"class": "TPV", "mode": 3, "lat": "north", "lon": 1}',
        b'{"class": "TPV", "mode": 3, "lat": NaN, "lon": 1.0}',
        b'{"class": "SKY", "mode": 3, "lat": 51.5, "lon": 1.0}',
    ],
    ids=["no JSON", "a list", "no fix", "half a fix", "words", "not a number", "another report"],
)
def test_what_is_no_fix_is_no_position(line: bytes) -> None:
    receiver = SatelliteReceiver("127.0.0.1:1", SystemClock())
    receiver._take(line)
    assert receiver.position(datetime.now(UTC)) is None


def test_a_fixed_site_is_where_it_is_now_and_nowhere_is_nowhere() -> None:
    now = datetime.now(UTC)
    assert FixedSite(51.5, -0.1).position(now) == Position(51.5, -0.1, 0.0, now)
    assert Nowhere().position(now) is None
