"""The page's end of the socket: asks the van's service, and does not wait for ever."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from edge.console import wire
from edge.console.wire import Answer, Checks, Done, Picture, Question, Refused, Report, ServiceSilent
from edge.errors import PolicyRefusal

__all__ = ["NotDone", "Service"]

ANSWER_S = 5.0
CHECK_S = 60.0
"""A self-test tries the disk and the clock."""
MOST_AT_ONCE = 8


class NotDone(PolicyRefusal):
    """The service has refused what the page asked for; says why."""

    def __init__(self, why: str) -> None:
        super().__init__("the service", why, "")
        self._why = why

    def __str__(self) -> str:
        return self._why


class Service:
    """See the module. For one event loop.

    Args:
        path: of the service's socket.

    Raises:
        ServiceSilent: every method may: it does not run, or does not answer in time.
        NotDone: every method may: it refuses, and says why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def report(self) -> Report:
        """How it stands."""
        answer, _ = await self._ask(wire.AskReport(), ANSWER_S)
        assert isinstance(answer, Report)
        return answer

    async def picture(self, camera: str, after: int) -> tuple[Picture, bytes]:
        """What a camera sees; no bytes where there is nothing newer than ``after``."""
        answer, picture = await self._ask(wire.AskPicture(camera, after), ANSWER_S)
        assert isinstance(answer, Picture)
        return answer, picture

    async def checks(self) -> Checks:
        """A self-test."""
        answer, _ = await self._ask(wire.AskSelfTest(), CHECK_S)
        assert isinstance(answer, Checks)
        return answer

    async def tell(self, message: wire.AskEnd | wire.NoteSignIn | wire.NoteSignInRefused | wire.NoteSignOut) -> Done:
        """Have something done, or written down."""
        answer, _ = await self._ask(message, ANSWER_S)
        assert isinstance(answer, Done)
        return answer

    async def _ask(self, question: Question, longest_s: float) -> tuple[Answer, bytes]:
        silent = ServiceSilent(
            "the service", "does not answer", "Wait half a minute; if it stays so, switch the van's computer off and on"
        )
        try:
            async with self._turns, asyncio.timeout(longest_s):
                answer, picture = await self._exchange(question)
        except (OSError, EOFError, TimeoutError):
            raise silent from None
        if isinstance(answer, Refused):
            raise NotDone(answer.why)
        wanted = _ANSWERS.get(type(question), Done)
        if not isinstance(answer, wanted):
            raise silent
        return answer, picture

    async def _exchange(self, question: Question) -> tuple[Answer, bytes]:
        with wire.reachable(self._path) as short:
            reader, writer = await asyncio.open_unix_connection(short)
        try:
            writer.write(wire.encode(question))
            answer = wire.decode_answer(await _block(reader, wire.LONGEST_TEXT))
            return answer, await _block(reader, wire.LONGEST_PICTURE)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


_ANSWERS: dict[type, type] = {wire.AskReport: Report, wire.AskPicture: Picture, wire.AskSelfTest: Checks}


async def _block(reader: asyncio.StreamReader, longest: int) -> bytes:
    length = int.from_bytes(await reader.readexactly(wire.PREFIX), "big")
    if length > longest:
        raise EOFError
    return await reader.readexactly(length)
