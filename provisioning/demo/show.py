"""The demo's pages in a browser: the list before it is signed for, the control room, the van's crew."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import webbrowser
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from edge.errors import EnvironmentFault

__all__ = ["OFFICER", "Pages"]

OFFICER = "op-1"


@dataclass(slots=True)
class Pages:
    """Addresses of the demo's pages.

    Attributes:
        console: where a person reads along.
        opened: whether browsers are opened; the addresses are printed in any case.
        password: of :data:`OFFICER`, made for this run.
    """

    console: Console
    opened: bool
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)

    def enrol_officer(self, command: str, config: Path) -> None:
        """Give the demo an operator who may sign in.

        Raises:
            EnvironmentFault: the control room refuses.
        """
        until = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
        arguments = ["staff", "add", OFFICER, "--role", "operator", "--trained-until", until, "--config", str(config)]
        done = subprocess.run(
            [command, *arguments, "--password-stdin"],
            input=f"{self.password}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EnvironmentFault("the demo's operator", done.stderr.strip().rstrip("."), "Read above")

    def show(self, name: str, address: str) -> None:
        """Print a page's address, and open it."""
        self.console.print(f"   {name}: {address}", markup=False)
        if self.opened:
            webbrowser.open(address)

    def wait(self) -> None:
        """Keep the pages until somebody has seen enough."""
        if not self.opened:
            return
        self.console.print("\nThe control room's page stays open. Press Enter, or Ctrl-C, to end the demo.")
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.readline()
