"""Tell the service manager how it stands: ready, alive, reloading, stopping, and in one line what is going on.

Outside systemd every call does nothing. ``WatchdogSec=`` in the unit makes systemd restart a van whose
part of it hangs: :func:`alive` is called only while every worker makes progress.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["alive", "ready", "status", "stopping"]


def _send(message: str) -> None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    from systemd import daemon  # noqa: PLC0415 - only its owner imports it, and only under systemd

    with contextlib.suppress(OSError):  # a service manager that does not listen must not stop the van
        daemon.notify(message)


def ready(line: str) -> None:
    """The van is watching; ``line`` says what."""
    _send(f"READY=1\nSTATUS={line}")


def alive() -> None:
    """Every worker makes progress."""
    _send("WATCHDOG=1")


def status(line: str) -> None:
    """One line for ``systemctl status``."""
    _send(f"STATUS={line}")


def stopping(line: str) -> None:
    """The van is shutting down; ``line`` says why."""
    _send(f"STOPPING=1\nSTATUS={line}")
