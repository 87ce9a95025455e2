"""Where the van is: a real gpsd fed with a recorded drive, and the clock that goes with it."""

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
from edge.deployment.clock_trust import (
    ClockTrust,
    built_at,
    clock_floor,
    ends_unconfirmed,
    kernel_says_synchronised,
    last_confirmed_time,
)
from edge.deployment.position import FixedSite, Gpsd
from edge.trust.place import Position, distance_m
from edge.worker import Supervisor
from tests.sim.clock import HandClock

HERE = (51.5105, -0.1301)


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
    assert shutil.which("gpsfake") and shutil.which("gpsd"), "gpsd or gpsfake is not installed: run scripts/setup"
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


def test_the_position_comes_from_a_real_gpsd(gpsfake: int, workers: Supervisor) -> None:
    receiver = Gpsd(SystemClock(), port=gpsfake)
    receiver.start(workers)
    try:
        assert wait_for(lambda: receiver.position() is not None), "gpsd gave no fix"
        found = receiver.position()
        assert found is not None
        assert distance_m((found.latitude, found.longitude), HERE) < 5
        assert 0 < found.accuracy_m <= 100
        assert abs(datetime.now(UTC) - found.at) < timedelta(seconds=5)
        assert wait_for(lambda: receiver.satellite_time() is not None)
    finally:
        receiver.stop()
    assert receiver.position() is None


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


def test_a_lost_fix_and_a_lost_gpsd_are_an_unknown_position(workers: Supervisor) -> None:
    speaker = Speaker()
    receiver = Gpsd(SystemClock(), port=speaker.port)
    receiver.start(workers)
    try:
        speaker.say(b"nonsense", b'["list"]', tpv())
        assert wait_for(lambda: receiver.position() is not None)
        found = receiver.position()
        assert found is not None
        assert (found.latitude, found.longitude, found.accuracy_m) == (1.0, 2.0, 7.5)
        speaker.say(tpv(mode=1))
        assert wait_for(lambda: receiver.position() is None)
        speaker.say(tpv(lat="51"))
        speaker.say(tpv(eph=None, epx=3.0, epy=4.0))
        assert wait_for(lambda: receiver.position() is not None)
        found = receiver.position()
        assert found is not None
        assert found.accuracy_m == 5.0
        for hostile in (
            b'{"class":"TPV","mode":3,"lat":1' + b"0" * 400 + b',"lon":2.0}',
            tpv(time="0001-01-01T00:00:00+23:00"),
            b"[" * 60_000,
            b"\xff\xfe{",
        ):
            speaker.say(tpv(mode=1), hostile, tpv(lat=4.0))
            assert wait_for(lambda: (seen := receiver.position()) is not None and seen.latitude == 4.0)
        speaker.close()
        assert wait_for(lambda: receiver.position() is None)
    finally:
        receiver.stop()


def test_a_fixed_site_is_always_where_it_is() -> None:
    assert FixedSite(51.5, -0.1, SystemClock()).position().accuracy_m == 0.0
    assert isinstance(FixedSite(51.5, -0.1, SystemClock()).position(), Position)


NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_floor_is_the_latest_thing_that_is_certainly_past(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(line("lfr.started", "2026-02-01") + line("lfr.stopped", "2026-02-03") + b"torn")
    third = datetime(2026, 2, 3, tzinfo=UTC)
    assert last_confirmed_time(log) == third
    assert clock_floor(built=NOW - timedelta(days=90), log=log) == third
    assert clock_floor(built=NOW, log=log) == NOW
    assert clock_floor(built=NOW, log=log, published=NOW + timedelta(days=1)) == NOW + timedelta(days=1)
    assert clock_floor(built=NOW, log=tmp_path / "nothing") == NOW
    assert built_at() <= datetime.now(UTC)


def test_a_clock_is_confirmed_by_a_battery_a_server_or_the_satellites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernel_says_synchronised() in {True, False}
    monkeypatch.setattr("edge.deployment.clock_trust.kernel_says_synchronised", lambda: False)
    monkeypatch.setattr("edge.deployment.clock_trust.TIMESYNC", tmp_path / "not there")
    none = tmp_path / "none"
    clock = HandClock(NOW)

    def trust(**changes: object) -> ClockTrust:
        return ClockTrust(clock, **{"rtc": none, **changes})  # type: ignore[arg-type]

    assert not trust().confirmed()
    battery = tmp_path / "rtc"
    battery.mkdir()
    (battery / "hctosys").write_text("1\n")
    (battery / "since_epoch").write_text(f"{clock.now().timestamp():.0f}\n")
    monkeypatch.setattr("edge.deployment.clock_trust.built_at", lambda: NOW - timedelta(days=1))
    assert trust(rtc=battery).confirmed()
    assert trust(required=False).confirmed()
    assert trust(satellite_time=lambda: clock.now() - timedelta(seconds=3)).confirmed()
    assert not trust(satellite_time=lambda: clock.now() - timedelta(hours=1)).confirmed()
    monkeypatch.setattr("edge.deployment.clock_trust.kernel_says_synchronised", lambda: True)
    assert trust().confirmed()


def line(event: str, at: str) -> bytes:
    return json.dumps({"event": event, "at": f"{at}T00:00:00+00:00"}).encode() + b"\n"


def test_what_was_written_while_nothing_vouched_for_the_clock_is_not_past(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(
        line("lfr.started", "2026-02-01") + line("clock.unconfirmed", "2030-01-01") + line("x", "2030-01-02")
    )
    assert last_confirmed_time(log) == datetime(2026, 2, 1, tzinfo=UTC)
    assert ends_unconfirmed(log)
    log.write_bytes(log.read_bytes() + line("clock.confirmed", "2026-02-02") + line("x", "2026-02-03"))
    assert last_confirmed_time(log) == datetime(2026, 2, 3, tzinfo=UTC)
    assert not ends_unconfirmed(log)


def test_a_clock_that_was_set_back_leaves_no_time_that_could_be_built_on(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_bytes(line("lfr.started", "2026-02-05") + line("lfr.refused", "2026-01-01"))
    assert last_confirmed_time(log) == datetime(2026, 2, 5, tzinfo=UTC)


def test_who_waits_for_a_confirmed_clock_is_told_once_what_vouches_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, False, True])
    monkeypatch.setattr("edge.deployment.clock_trust.kernel_says_synchronised", lambda: next(answers))
    trust, told = ClockTrust(HandClock(NOW), rtc=tmp_path / "none"), []
    trust.on_confirmed(told.append)
    assert [trust.confirmed() for _ in range(4)] == [False, True, True, True]
    assert told == ["a time server"]
