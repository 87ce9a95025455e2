"""The record of writes, and what a medium holds after a cut: rules of scripts/power-cuts-image."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.image import power_cuts
from tests.image.power_cuts import DISCARD, FLUSH, MAGIC, SECTOR, Cut

SIZE = 16 * SECTOR


def line(sector: int, content: bytes = b"", flags: int = 0, sectors: int = 0) -> bytes:
    head = struct.pack("<QQQQ", sector, sectors or len(content) // SECTOR, flags, len(content))
    return head.ljust(SECTOR, b"\0") + content


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, Path]:
    """A medium of zeros, and: write 0, write 1, flush, write 0 anew, write 2 and 3 at once."""
    log = tmp_path / "writes.log"
    log.write_bytes(
        struct.pack("<QQQI", MAGIC, 1, 5, SECTOR).ljust(SECTOR, b"\0")
        + line(0, b"a" * SECTOR)
        + line(1, b"b" * SECTOR)
        + line(0, flags=FLUSH)
        + line(0, b"A" * SECTOR)
        + line(2, b"c" * 2 * SECTOR)
    )
    before = tmp_path / "before.img"
    before.write_bytes(bytes(SIZE))
    return before, log


def after(recorded: tuple[Path, Path], kind: str, entries: int, seed: int = 0) -> str:
    """The first letter of each of the first four sectors; a dot where there are zeros."""
    before, log = recorded
    out = before.with_name("out.img")
    power_cuts.rebuild(before, log, Cut(entries, kind, seed, "time"), out)
    raw = out.read_bytes()
    assert len(raw) == SIZE
    return "".join(chr(raw[n * SECTOR]) if raw[n * SECTOR] else "." for n in range(4))


def test_a_killed_emulator_keeps_all_that_was_handed_over(recorded: tuple[Path, Path]) -> None:
    states = [after(recorded, "kept", number) for number in range(6)]
    assert states == ["....", "a...", "ab..", "ab..", "Ab..", "Abcc"]


def test_a_medium_that_loses_its_cache_falls_back_to_the_last_flush(recorded: tuple[Path, Path]) -> None:
    states = [after(recorded, "lost", number) for number in range(6)]
    assert states == ["....", "....", "....", "ab..", "ab..", "ab.."]


def test_writes_after_the_last_flush_arrive_in_part_and_those_before_it_always(recorded: tuple[Path, Path]) -> None:
    states = {after(recorded, "some", 5, seed) for seed in range(60)}
    assert states >= {"abcc", "ab..", "Ab..", "Abcc"}
    assert {"abc.", "Abc."} & states, "a write may be torn"
    assert all(state[0] in "aA" and state[1] == "b" for state in states)


def test_a_discarded_range_becomes_zeros(recorded: tuple[Path, Path]) -> None:
    _before, log = recorded
    with log.open("ab") as stream:
        stream.write(line(0, flags=DISCARD, sectors=2) + line(0, flags=FLUSH))
    assert after(recorded, "kept", 7) == "..cc"


def test_a_record_that_was_cut_off_is_read_to_its_last_whole_entry(recorded: tuple[Path, Path]) -> None:
    _before, log = recorded
    whole = log.read_bytes()
    log.write_bytes(whole[:-1])
    assert len(power_cuts.entries(log)) == 4
    log.write_bytes(whole + bytes(4 * SECTOR))
    assert len(power_cuts.entries(log)) == 5
    log.write_bytes(bytes(SIZE))
    with pytest.raises(ValueError, match="no log of writes"):
        power_cuts.entries(log)


def test_cuts_are_spread_over_time_and_flushes_and_the_same_seed_draws_the_same(recorded: tuple[Path, Path]) -> None:
    _before, log = recorded
    for number in range(200):
        with log.open("ab") as stream:
            stream.write(line(number % 16, b"x" * SECTOR) + (line(0, flags=FLUSH) if number % 5 == 0 else b""))
    entries = power_cuts.entries(log)
    sizes = [power_cuts.log_end(entries[20 + number]) for number in range(0, 200, 2)]
    cuts = power_cuts.draw(entries, sizes, 20, seed=7)
    assert cuts == power_cuts.draw(entries, sizes, 20, seed=7)
    assert cuts != power_cuts.draw(entries, sizes, 20, seed=8)
    assert [cut.drawn for cut in cuts] == ["time", "flushes"] * 10
    assert {cut.kind for cut in cuts} == {"kept", "lost", "some"}
    moments = [cut.after for cut in cuts if cut.drawn == "time"]
    assert moments == sorted(moments)
    assert min(moments) >= 20
    assert max(moments) - min(moments) > 120
