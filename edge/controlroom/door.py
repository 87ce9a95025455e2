"""The page's door: what reaches it at all, who is let in, and how they leave.

What reaches it is :mod:`edge.web.guard`'s. Whoever signs in is looked at by :mod:`edge.controlroom.signin`, as often as
:mod:`edge.web.guesses` allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edge.clock import SystemClock
from edge.controlroom.officers import LONGEST_NUMBER, Known
from edge.controlroom.service import ControlRoom
from edge.controlroom.signin import Claim, TooManyAtOnce
from edge.errors import PolicyRefusal
from edge.officers import Officer, TrainingLapsed, require_trained
from edge.web.guard import place_of, read_form
from edge.web.guesses import Attempt, Guesses, TooManyGuesses
from edge.web.sessions import MARK_LIFE_S, Session, Sessions

__all__ = ["Door", "SignedOut"]


class SignedOut(Exception):
    """The request carries no session that is still good."""


class Door:
    """Signs officers in and out.

    Args:
        room: whose officers.
        secure: marks cookies for HTTPS only.
        html: renders a template: its name, the status, its values.
        changed: called when somebody has left.
    """

    def __init__(
        self, room: ControlRoom, *, secure: bool, html: Callable[..., Response], changed: Callable[[], None]
    ) -> None:
        self._room = room
        self._secure = secure
        self._html = html
        self._changed = changed
        self._guesses = Guesses(SystemClock())
        self.sessions = Sessions(
            room.store.secret("browsers"),
            idle_s=room.config.console.idle_min * 60,
            on_end=room.signed_out,
            secure=secure,
        )
        room.sweep = self.sweep

    async def officer(self, request: Request, *, counts: bool = True) -> Officer:
        """Who asks. ``counts``: whether this request is a sign of life.

        Raises:
            SignedOut: nobody, idle for too long, training lapsed, password changed, locked, taken off the list or
                signed out by somebody else meanwhile.
        """
        token = self.token(request)
        session = self.sessions.find(token)
        if session is None:
            raise SignedOut
        known, seats = await asyncio.to_thread(self._standing, session)
        if cause := self._why_over(session, known, seats):
            self.sessions.end(token, cause)
            raise SignedOut
        assert known is not None  # or there would be a cause
        if counts:
            self.sessions.alive(session)
        return known.officer

    def sweep(self) -> None:
        """End the sessions that are no longer good, whether or not their browsers ask for anything.

        Once a second, from a worker of the control room.

        Raises:
            StoreDamaged, StoreUnavailable: the store or the audit log cannot be used.
        """
        sessions = self.sessions.all()
        if not sessions:
            return
        officers, seats = self._room.store.officers.everybody(), self._room.store.seats.taken()
        over = False
        for token, session in sessions:
            if cause := self._why_over(session, officers.get(session.number), seats):
                over = True
                self.sessions.end(token, cause)
        if over:
            self._changed()

    def _standing(self, session: Session) -> tuple[Known | None, set[int]]:
        return self._room.store.officers.known(session.number), self._room.store.seats.taken()

    def _why_over(self, session: Session, known: Known | None, seats: set[int]) -> str:
        """Why a session is no longer good; empty where it is."""
        if known is None:
            return "taken off the list"
        if known.locked:
            return "locked"
        if known.stamp != session.stamp:
            return "the password was changed"
        if session.seat not in seats:
            return "ended by somebody else"
        try:
            require_trained(known.officer, self._room.now().date())
        except TrainingLapsed:
            return "training lapsed"
        return "idle" if self.sessions.over(session) else ""

    def token(self, request: Request) -> str:
        """What the browser shows for its session; empty without."""
        return request.cookies.get(self.sessions.cookie, "")

    def seat(self, request: Request) -> int:
        """The number of the browser's session, of those that :class:`edge.controlroom.seats.Seats` lists; 0 without."""
        session = self.sessions.find(self.token(request))
        return 0 if session is None else session.seat

    async def sign_in_page(self, _: Request) -> Response:
        return self._html("signin.html", error=None)

    async def sign_in(self, request: Request) -> Response:
        form = await read_form(request)
        number, password = form.get("number", ""), form.get("password", "")
        if not number.isprintable() or len(number) > LONGEST_NUMBER:
            return self._html("signin.html", status=403, error="Give your officer's number and password.")
        mark = self.sessions.mark_name(number)
        browser = self.sessions.marked(number, request.cookies.get(mark, ""))
        attempt = Attempt(number, place_of(request), browser)
        try:
            self._guesses.begin(attempt)
            try:
                answer = self._room.sign_ins.ask(Claim(number, password, attempt.place, known=bool(browser)))
            except TooManyAtOnce as error:
                self._guesses.undo(attempt)
                return self._html("signin.html", status=503, error=str(error))
            found = await asyncio.wrap_future(answer)
        except TooManyGuesses as error:
            return self._html("signin.html", status=429, error=str(error))
        except PolicyRefusal as error:
            return self._html("signin.html", status=403, error=str(error))
        self._guesses.right(attempt)
        seat = await asyncio.to_thread(
            self._room.store.seats.take, found.officer.number, attempt.place, self._room.now()
        )
        token = self.sessions.begin(found.officer.number, found.stamp, seat)
        redirect = RedirectResponse("/", status_code=303)
        self._set_cookie(redirect, mark, self.sessions.new_mark(number), path="/signin", max_age=MARK_LIFE_S)
        self._set_cookie(redirect, self.sessions.cookie, token)
        return redirect

    def _set_cookie(self, answer: Response, name: str, value: str, **options: Any) -> None:
        answer.set_cookie(name, value, httponly=True, samesite="strict", secure=self._secure, **options)

    async def sign_out(self, request: Request) -> Response:
        await read_form(request)
        self.sessions.end(self.token(request), "signed out")
        self._changed()
        answer = RedirectResponse("/signin", status_code=303)
        answer.delete_cookie(self.sessions.cookie, httponly=True, samesite="strict", secure=self._secure)
        return answer
