"""How the van stands, asked twice a second for everybody who looks, and told to them as server-sent events.

The service is asked on its socket. Where that does not answer, what it wrote last is read, and why it cannot be read is
said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from edge.config import load
from edge.console.service import Service
from edge.console.views import render, state_values
from edge.console.wire import Report
from edge.errors import EdgeError, for_crew
from edge.system.board import status_file
from edge.system.health import Health, read_status
from edge.system.journal import get_logger

__all__ = ["Known", "Pulse"]

EVERY_S = 0.5
BEAT_S = 2.0
"""The page hears something at least so often, and takes three times as long for the loss of the van."""

Known = tuple[Report | Health | None, str]
"""What is known of the van, and why there is nothing."""


class Pulse:
    """See the module. For one event loop.

    Args:
        config: the van's configuration file. It is read anew where the service does not answer: one that is wrong keeps
            the service from starting, and the page says what is wrong.
        service: is asked.
    """

    def __init__(self, config: Path, service: Service) -> None:
        self._config = config
        self._service = service
        self._turn = asyncio.Condition()
        self.on_turn: list[Callable[[], Awaitable[None]]] = []
        """Done about once a second."""
        self.beat: Callable[[], None] = lambda: None
        """Called twice a second while the event loop comes round."""
        self.ending = False
        self.known: Known = (None, "")

    async def ask(self) -> Known:
        """How it stands now."""
        try:
            return await self._service.report(), ""
        except EdgeError:
            return await asyncio.to_thread(self._written)

    def _written(self) -> Known:
        try:
            return read_status(status_file(load(self._config))), ""
        except EdgeError as error:
            return None, for_crew(error)

    async def run(self) -> None:
        """Ask for ever."""
        turns = 0
        while True:
            self.beat()
            self.known = await self.ask()
            if turns % 2 == 0:
                for each in self.on_turn:
                    try:
                        await each()
                    except Exception as error:  # noqa: BLE001 - what one page cannot do must not stop the others
                        get_logger("page").error("turn_failed", fault=type(error).__name__)
            turns += 1
            async with self._turn:
                self._turn.notify_all()
            await asyncio.sleep(EVERY_S)

    async def events(self) -> AsyncIterator[str]:
        """State and facts as events, each when it has changed, and a beat when nothing has."""
        said: dict[str, str] = {}
        quiet = 0.0
        yield "retry: 1000\n\nevent: beat\ndata: hello\n\n"
        while not self.ending:
            values = state_values(*self.known, datetime.now(UTC))
            fresh = {name: render(f"{name}.html", **values) for name in ("state", "facts")}
            changed = {name: html for name, html in fresh.items() if said.get(name) != html}
            said = fresh
            for name, html in changed.items():
                yield event(name, html)
            quiet = 0.0 if changed else quiet + EVERY_S
            if quiet >= BEAT_S:
                quiet = 0.0
                yield event("beat", "still here")
            async with self._turn:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._turn.wait(), timeout=BEAT_S)


def event(name: str, html: str) -> str:
    """One server-sent event."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"event: {name}\n{lines}\n"
