"""The service's end of the socket that the crew's page asks: who may ask, how much, and for how long.

The kernel says which account is at the other end; any other than the page's or the service's own is turned away before
a byte is read. One question is answered at a time, by one supervised worker. Who asks slowly is cut off.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from edge.console import wire
from edge.console.wire import Answer, Question, Refused
from edge.errors import SOFTWARE_FAULT, ConfigInvalid, EdgeError, RecordInvalid, StoreUnavailable, for_crew
from edge.system.journal import get_logger
from edge.worker import Supervisor, Worker

__all__ = ["Hatch", "account_of"]

log = get_logger("hatch")
EXCHANGE_S = 2.0
"""A question must have come, and an answer must have gone, within so long."""
TURN_S = 0.5
SILENT_S = 60.0
"""A self-test writes to the disk; one that takes this long hangs."""
BACKLOG = 16
_CREDENTIALS = struct.Struct("3i")

Answers = Callable[[Question], tuple[Answer, bytes]]


def account_of(name: str) -> int:
    """The user id of an account.

    Raises:
        ConfigInvalid: there is none of that name.
    """
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigInvalid("key page.account", f"is {name}: there is no such user here", "Correct it") from None


class Hatch:
    """See the module.

    Args:
        path: of the socket; what lies there is replaced. Its folder is the service's own.
        answers: makes the answer to a question, and the picture that goes with it.
        account: the page's user, besides the service's own; empty for none.

    Raises:
        ConfigInvalid: the page's user does not exist.
        StoreUnavailable: the socket cannot be made.
    """

    def __init__(self, path: Path, answers: Answers, account: str = "") -> None:
        self._answers = answers
        self._welcome = {os.getuid(), *([account_of(account)] if account else [])}
        self._path = path
        self._worker: Worker | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            with wire.reachable(path) as short:
                self._listener.bind(short)
            path.chmod(0o660 if account else 0o600)
            self._listener.listen(BACKLOG)
        except OSError as error:
            self._listener.close()
            raise StoreUnavailable(
                str(path), f"cannot be made ({error.strerror or error})", "Check who owns the folder"
            ) from None
        self._listener.settimeout(TURN_S)

    def start(self, workers: Supervisor) -> None:
        """Answer from now on."""
        self._worker = workers.start("crew", self._run, silent_s=SILENT_S)

    def stop(self) -> None:
        """Answer no more."""
        if self._worker is not None:
            self._worker.stop()
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _run(self, worker: Worker) -> None:
        while not worker.stopping:
            worker.beat()
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection, contextlib.suppress(OSError, EOFError):
                if self._known(connection):
                    self._exchange(connection)

    def _known(self, connection: socket.socket) -> bool:
        _, user, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if user not in self._welcome:
            log.warning("stranger_at_the_hatch", user=user)
            return False
        return True

    def _exchange(self, connection: socket.socket) -> None:
        until = time.monotonic() + EXCHANGE_S
        length = int.from_bytes(_read(connection, wire.PREFIX, until), "big")
        if length > wire.LONGEST_TEXT:
            return
        picture = b""
        try:
            answer, picture = self._answers(wire.decode_question(_read(connection, length, until)))
            if len(picture) > wire.LONGEST_PICTURE:
                raise RecordInvalid("the live picture", "is too large to be shown", SOFTWARE_FAULT)
            said = wire.encode(answer)
        except EdgeError as error:
            said, picture = wire.encode(Refused(for_crew(error))), b""
        connection.settimeout(EXCHANGE_S)
        connection.sendall(said + len(picture).to_bytes(wire.PREFIX, "big"))
        if picture:
            connection.sendall(picture)


def _read(connection: socket.socket, length: int, until: float) -> bytes:
    """Exactly so many bytes.

    Raises:
        EOFError: the other end has gone.
        TimeoutError: they did not come in time.
    """
    found = bytearray()
    while len(found) < length:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(min(65536, length - len(found)))
        if not part:
            raise EOFError
        found += part
    return bytes(found)
