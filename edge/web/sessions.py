"""Who is signed in at the page, and at which browser an officer has been before.

A session ends when it is idle, after half a day, when the officer signs out, when the training lapses, when the
password changes, when the officer is locked or removed, and when somebody takes its seat away. Each end is told once.
A browser at which somebody signed in keeps a mark that says so for that number alone, made under a key of this page:
what strangers guess does not count there (:mod:`edge.web.guesses`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Ended", "Session", "Sessions"]

LONGEST_SESSION_S = 12 * 3600
MOST_EACH = 20
"""Sessions of one officer; a further one ends the oldest."""
MARK_LIFE_S = 90 * 24 * 3600
MARK_BYTES = 16

Ended = Callable[["Session", str], None]
"""Told of each end: what has ended, and why."""


@dataclass(slots=True)
class Session:
    """Somebody who signed in.

    Attributes:
        number: the officer's.
        stamp: of the password that was good then.
        seat: its number among the page's sessions.
        begun: when, by the monotonic clock, seconds.
        active: the last sign of life, likewise.
    """

    number: str
    stamp: str
    seat: int
    begun: float
    active: float


class Sessions:
    """See the module. Its methods may be called from any thread.

    Args:
        key: for the marks of browsers.
        idle_s: seconds without a sign of life until a session ends.
        on_end: told of each end.
        secure: whether the page is served over TLS.
    """

    def __init__(self, key: bytes, *, idle_s: float, on_end: Ended, secure: bool) -> None:
        self._key = key
        self._idle_s = idle_s
        self._on_end = on_end
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self.cookie = "__Host-lfr_session" if secure else "lfr_session"
        """A name that browsers take from this host over TLS only, where there is TLS."""
        self._mark = "__Secure-lfr_known_" if secure else "lfr_known_"

    def __contains__(self, token: object) -> bool:
        return token in self._sessions

    def begin(self, number: str, stamp: str, seat: int) -> str:
        """A new session; returns its token."""
        now = time.monotonic()
        for token, session in self.all():
            if self.over(session):
                self.end(token, "idle")
        mine = [token for token, session in self.all() if session.number == number]
        for token in mine[: len(mine) - MOST_EACH + 1]:
            self.end(token, "signed in too many times")
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[token] = Session(number, stamp, seat, now, now)
        return token

    def all(self) -> list[tuple[str, Session]]:
        """Every token with its session, the oldest first."""
        with self._lock:
            return list(self._sessions.items())

    def find(self, token: str) -> Session | None:
        """The session of this token, if it is still good."""
        with self._lock:
            session = self._sessions.get(token)
        if session is not None and self.over(session):
            self.end(token, "idle")
            return None
        return session

    def alive(self, session: Session) -> None:
        """The officer did something."""
        session.active = time.monotonic()

    def end(self, token: str, cause: str) -> None:
        """End a session, if there is one."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            self._on_end(session, cause)

    def over(self, session: Session) -> bool:
        """Whether it was idle for too long, or lasted for half a day."""
        now = time.monotonic()
        return now - session.active > self._idle_s or now - session.begun > LONGEST_SESSION_S

    # -- browsers --------------------------------------------------------------------------------

    def mark_name(self, number: str) -> str:
        """The cookie that marks a browser as one where the officer ``number`` has signed in."""
        return self._mark + hashlib.sha256(number.encode()).hexdigest()[:16]

    def new_mark(self, number: str) -> str:
        """The content of such a cookie."""
        nonce = secrets.token_hex(MARK_BYTES)
        return f"{nonce}.{self._vouch(number, nonce)}"

    def marked(self, number: str, mark: str) -> str:
        """What names the browser that sent ``mark``; empty where it is none of ours for this number."""
        nonce, _, vouched = mark.partition(".")
        good = hmac.compare_digest(self._vouch(number, nonce).encode(), vouched.encode())
        return nonce if good else ""

    def _vouch(self, number: str, nonce: str) -> str:
        return hmac.digest(self._key, f"{number}\n{nonce}".encode(), "sha256").hex()
