"""What the appliance says of itself holds words and numbers only, and its memory is its own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edge.custody import memory
from edge.errors import BadInput, EdgeError
from edge.records import QualityReason
from edge.system.health import Health, Spread, read_status, spread, write_status
from edge.system.journal import MAX_TEXT, only_words_and_numbers


@pytest.mark.parametrize(
    "secret",
    [np.full(4, 0.25, np.float32), b"\xff\xd8\xff\xe0", bytearray(b"abc"), {"v": [0.25]}, [0.25, 0.5], object()],
    ids=["array", "picture", "buffer", "dict", "floats", "object"],
)
def test_what_could_be_biometric_never_reaches_the_log(secret: object) -> None:
    said = only_words_and_numbers(None, "info", {"event": "x", "value": secret})
    assert "withheld" in said["value"]
    assert "0.25" not in json.dumps(said)


def test_words_numbers_and_reasons_do() -> None:
    said = only_words_and_numbers(None, "info", {"event": "x", "n": 3, "why": QualityReason.TOO_SMALL, "p": Path("/a")})
    assert said == {"event": "x", "n": 3, "why": QualityReason.TOO_SMALL.value, "p": "/a"}


def test_long_text_is_cut_so_that_no_encoded_picture_passes() -> None:
    said = only_words_and_numbers(None, "info", {"event": "x" * 10_000})
    assert len(said["event"]) == MAX_TEXT + 1


@pytest.mark.parametrize("error", EdgeError.__subclasses__())
def test_every_error_names_thing_cause_and_next_step_in_one_line(error: type[EdgeError]) -> None:
    assert str(error("the lens", "is dirty", "Wipe it")) == "the lens: is dirty. Wipe it."


def test_the_status_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    health = Health(van="v", deployment="d", state="watching", at=datetime.now(UTC), erasure_ms=spread([1, 2, 30]))
    write_status(tmp_path / "status.json", health)
    assert read_status(tmp_path / "status.json") == health
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_a_missing_or_damaged_status_file_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not run"):
        read_status(tmp_path / "status.json")
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        read_status(tmp_path / "status.json")


def test_the_spread_of_nothing_is_nothing_and_not_zero() -> None:
    assert spread([]) == Spread(None, None, None)
    assert spread([5.0] * 99 + [100.0]).max == 100.0


def test_a_protected_process_dumps_no_core_and_locks_its_memory() -> None:
    code = """
import resource, ctypes
from edge.config import MemorySection
from edge.custody.memory import protect
granted = protect(MemorySection())
assert granted.dumps_off
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
locked = [line for line in open("/proc/self/status") if line.startswith("VmLck")][0].split()[1]
assert (int(locked) > 0) == granted.locked
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_swap_is_noticed_and_silence_counts_as_swap(tmp_path: Path) -> None:
    table = tmp_path / "swaps"
    table.write_text("Filename Type Size Used Priority\n")
    assert not memory.swap_present(table)
    table.write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
    assert memory.swap_present(table)
    assert memory.swap_present(tmp_path / "none")
