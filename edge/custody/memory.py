"""Ask the operating system to keep this process's memory to itself, before anything biometric is in it.

Three doors by which memory leaves a process, each closed and each checked afterwards:

* *swap*: all pages are locked (``mlockall``); where that is not granted, a machine with swap is refused;
* *core dumps*: the limit is zero and the process is marked as not dumpable;
* *other processes*: not dumpable also refuses ``ptrace`` and ``/proc/<pid>/mem`` to everyone but root.

Sources: mlockall(2), prctl(2) PR_SET_DUMPABLE, getrlimit(2), proc(5).
"""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path

from edge.config import MemorySection
from edge.errors import MemoryUnprotected

__all__ = ["MemoryProtection", "protect"]

PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4
"""Lock pages as they are touched: a model maps more address space than it uses."""
_HEADER_LINES = 1


@dataclass(frozen=True, slots=True)
class MemoryProtection:
    """What was granted.

    Attributes:
        locked: no page of this process can reach swap.
        dumps_off: no core dump, no ptrace by others.
        swap_present: whether the machine has swap at all.
    """

    locked: bool
    dumps_off: bool
    swap_present: bool


def swap_present(table: Path = Path("/proc/swaps")) -> bool:
    """Whether any swap is on; a machine that does not say is taken to have some."""
    try:
        return len(table.read_text(encoding="ascii").splitlines()) > _HEADER_LINES
    except OSError:
        return True


def protect(settings: MemorySection) -> MemoryProtection:
    """Close the doors, check that they are closed, and say what was granted.

    Raises:
        MemoryUnprotected: core dumps cannot be excluded, or memory can be swapped out.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    dumps_off = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 and resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    if not dumps_off:
        raise MemoryUnprotected(
            "core dumps of this process",
            "cannot be switched off",
            "Use a Linux kernel that allows it (PR_SET_DUMPABLE)",
        )
    locked = False
    cause = "memory locking is switched off by memory.lock"
    if settings.lock:
        locked = libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0
        cause = f"memory cannot be locked ({os.strerror(ctypes.get_errno())})"
    swap = swap_present()
    if swap and not locked and settings.refuse_swap:
        raise MemoryUnprotected(
            "this machine's swap",
            f"is on while {cause}, so a face could be written to disk",
            "Run swapoff -a, or raise the service's LimitMEMLOCK to infinity",
        )
    return MemoryProtection(locked=locked, dumps_off=dumps_off, swap_present=swap)
