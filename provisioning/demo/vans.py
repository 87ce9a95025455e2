"""The demo's vans: one watches the street, and a second one comes when somebody has already left the list."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from edge.assembly.mandate import AUDIT_FILE
from provisioning.demo.footage import Footage
from provisioning.demo.office import PLACE

__all__ = ["DEPLOYMENT", "SECOND_FPS", "Van"]

DEPLOYMENT = "demo-deployment"
SECOND_FPS = 5.0
"""Frames a second of the second van, so that two vans fit on two cores."""


@dataclass(slots=True)
class Van:
    """One van of the demo, and what it said.

    Attributes:
        name: its identity.
        folder: what is installed on it.
        fps: frames a second that it looks at.
        process: while it runs.
        began: wall clock (POSIX seconds) at which it began to watch; 0 before.
        ended: whether it has ended.
        health: its own counters at the end.
        forgotten: passages that were forgotten.
        receipt: the destruction of its list.
        verified: what verifying its audit log found.
    """

    name: str
    folder: Path
    fps: float
    process: subprocess.Popen[str] | None = None
    began: float = 0.0
    ended: bool = False
    health: dict[str, Any] = field(default_factory=dict)
    forgotten: list[dict[str, Any]] = field(default_factory=list)
    receipt: dict[str, Any] = field(default_factory=dict)
    verified: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / "lfr.toml"

    @property
    def audit_log(self) -> Path:
        """Its audit log."""
        return self.folder / "state" / AUDIT_FILE

    def configure(self, footage: Footage, broker: int, *, live: bool, threshold: float | None) -> None:
        """Write its configuration.

        Args:
            footage: what it watches.
            broker: port of the broker on this machine.
            live: play the video at its own speed.
            threshold: score that raises an alert; None for the van's default.
        """
        decision: dict[str, float] = {"cooldown_s": footage.cooldown_s}
        if threshold is not None:
            decision["threshold"] = threshold
        content = {
            "van": {"id": self.name},
            "deployment": {"id": DEPLOYMENT, "place": "a street on this machine"},
            "camera": {
                "source": str(footage.video),
                "pace": "live" if live else "every-frame",
                "max_fps": min(60.0, max(1.0, self.fps)),
            },
            "decision": decision,
            "position": {"fixed": list(PLACE)},
            "clock": {"require_confirmed": False},
            "store": {"runtime": "run"},
            "repository": {"source": "../office/repository"},
            "alert": {"host": "localhost", "port": broker},
        }
        self.config.write_bytes(tomli_w.dumps(content).encode())
