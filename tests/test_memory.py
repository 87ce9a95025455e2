"""Memory that cannot leave the process: each answer that an operating system may give, and the real one."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.config import MemorySection
from edge.custody import memory
from edge.custody.memory import MemoryProtection, protect
from edge.errors import MemoryUnprotected

DUMPABLE, IS_DUMPABLE, ALL_PAGES_AS_TOUCHED = 4, 3, 1 | 2 | 4
"""From the kernel's own headers: PR_SET_DUMPABLE, PR_GET_DUMPABLE, MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT."""


@dataclass
class Machine:
    """What the operating system is asked, and what it answers."""

    grants_dumpable: bool = True
    grants_lock: bool = True
    grants_limit: bool = True
    swap: bool = False
    dumpable: int = 1
    limit: tuple[int, int] = (7, 7)
    locked: list[int] = field(default_factory=list)

    def prctl(self, option: int, value: int, *unused: int) -> int:
        assert unused == (0, 0, 0), "as prctl(2) asks"
        if option == IS_DUMPABLE:
            assert value == 0
            return self.dumpable
        assert option == DUMPABLE
        self.dumpable = value if self.grants_dumpable else self.dumpable
        return 0

    def mlockall(self, flags: int) -> int:
        self.locked.append(flags)
        return 0 if self.grants_lock else -1

    def setrlimit(self, which: int, limit: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_CORE
        self.limit = limit if self.grants_limit else self.limit

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_CORE
        return self.limit


def on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def library(name: object, *, use_errno: bool = False) -> Machine:
        assert name is None
        assert use_errno, "or the reason of a refusal is lost"
        return machine

    fake: Any = SimpleNamespace(CDLL=library, get_errno=lambda: errno.ENOMEM)
    monkeypatch.setattr(memory, "ctypes", fake)
    monkeypatch.setattr(resource, "setrlimit", machine.setrlimit)
    monkeypatch.setattr(resource, "getrlimit", machine.getrlimit)
    monkeypatch.setattr(memory, "swap_present", lambda: machine.swap)


GRANTED: dict[str, tuple[Machine, MemorySection, MemoryProtection]] = {
    "everything": (Machine(), MemorySection(), MemoryProtection(locked=True, dumps_off=True, swap_present=False)),
    "no lock, and there is no swap": (
        Machine(grants_lock=False), MemorySection(), MemoryProtection(locked=False, dumps_off=True, swap_present=False),
    ),
    "a lock in spite of swap": (
        Machine(swap=True), MemorySection(), MemoryProtection(locked=True, dumps_off=True, swap_present=True),
    ),
    "no lock, and swap is allowed": (
        Machine(grants_lock=False, swap=True), MemorySection(refuse_swap=False),
        MemoryProtection(locked=False, dumps_off=True, swap_present=True),
    ),
    "no lock was asked for": (
        Machine(), MemorySection(lock=False), MemoryProtection(locked=False, dumps_off=True, swap_present=False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRANTED)
def test_it_is_said_exactly_what_was_granted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, settings, granted = GRANTED[name]
    on(machine, monkeypatch)
    assert protect(settings) == granted
    assert (machine.dumpable, machine.limit) == (0, (0, 0))
    assert machine.locked == ([ALL_PAGES_AS_TOUCHED] if settings.lock else [])


REFUSED: dict[str, tuple[Machine, MemorySection, str]] = {
    "a kernel that keeps the process dumpable": (Machine(grants_dumpable=False), MemorySection(), "core dumps"),
    "a limit for core dumps that stays": (Machine(grants_limit=False), MemorySection(), "core dumps"),
    "swap, and no lock": (Machine(grants_lock=False, swap=True), MemorySection(), os.strerror(errno.ENOMEM)),
    "swap, and the lock is switched off": (Machine(swap=True), MemorySection(lock=False), "memory.lock"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_door_that_stays_open_is_refused_with_its_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, settings, words = REFUSED[name]
    on(machine, monkeypatch)
    with pytest.raises(MemoryUnprotected, match=words):
        protect(settings)


def test_a_limit_that_others_may_raise_again_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    on(machine, monkeypatch)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (0, resource.RLIM_INFINITY))
    with pytest.raises(MemoryUnprotected):
        protect(MemorySection())


def test_on_this_machine_pages_that_come_later_are_locked_as_well_and_only_when_touched() -> None:
    """A model maps more than it uses: locking all that is mapped would need memory that a Raspberry Pi lacks."""
    code = """
import mmap
from edge.config import MemorySection
from edge.custody.memory import protect

def locked_kib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmLck")).split()[1])

def resident_kib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

granted = protect(MemorySection())
if not granted.locked:
    print("not granted")
    raise SystemExit
before, resident = locked_kib(), resident_kib()
later = mmap.mmap(-1, 64 << 20)
print(locked_kib() - before >= 64 << 10, resident_kib() - resident < 16 << 10)
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=root, capture_output=True, text=True)
    if done.stdout.strip() == "not granted":
        pytest.skip("this machine does not grant locked memory")
    assert done.stdout.split() == ["True", "True"]
