"""The door of the crew's page: sign-in by number and PIN, with the training's date, and how sessions end.

Nobody is let in before the van's audit log has it: the service writes it down, and while it does not answer nobody can
sign in. A PIN may be tried as often as :mod:`edge.web.guesses` allows.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edge.clock import SystemClock
from edge.console.crew import Crew, Member
from edge.console.service import NotDone, Service
from edge.console.wire import NoteSignIn, NoteSignInRefused, NoteSignOut, ServiceSilent
from edge.errors import BadInput, EdgeError, PolicyRefusal
from edge.officers import Officer, TrainingLapsed, require_trained
from edge.web.guard import place_of, read_form
from edge.web.guesses import Attempt, Guesses, TooManyGuesses
from edge.web.sessions import MARK_LIFE_S, Session, Sessions

__all__ = ["Door", "SignedOut"]

LONGEST_PIN = 32
MOST_OWED = 1000
NOT_LISTED = "(not on the list)"
LOGGED, LOGGED_SPAN_S = 60, 60
"""So many refused sign-ins are written down one by one in so many seconds; the others are counted in the next."""


class SignedOut(Exception):
    """The request carries no session that is still good."""


class Door:
    """See the module.

    Args:
        crew: who may sign in.
        service: writes the audit log.
        idle_s: seconds without a touch until a session ends.
        secure: whether this page is served over TLS.
        html: renders a template: its name, the status, its values.
    """

    def __init__(
        self, crew: Crew, service: Service, *, idle_s: float, secure: bool, html: Callable[..., Response]
    ) -> None:
        self._crew = crew
        self._service = service
        self._secure = secure
        self._html = html
        self._guesses = Guesses(SystemClock())
        self._seats = itertools.count(1)
        self._deriving = asyncio.Lock()
        self._owed: deque[NoteSignOut] = deque(maxlen=MOST_OWED)
        self._span = 0.0
        self._in_span = self._unlogged = 0
        self.sessions = Sessions(os.urandom(32), idle_s=idle_s, on_end=self._ended, secure=secure)

    def _ended(self, session: Session, cause: str) -> None:
        self._owed.append(NoteSignOut(session.number, cause))

    # -- who is there --------------------------------------------------------------------------------

    def officer(self, request: Request, *, counts: bool = True) -> Officer:
        """Who asks. ``counts``: whether this request is a touch of the screen.

        Raises:
            SignedOut: nobody, or nobody any more.
        """
        token = self.token(request)
        session = self.sessions.find(token)
        if session is None:
            raise SignedOut
        member = self._member(session)
        if cause := self._why_over(session, member):
            self.sessions.end(token, cause)
            raise SignedOut
        assert member is not None  # or there would be a cause
        if counts:
            self.sessions.alive(session)
        return member.officer

    def anybody(self, request: Request) -> Officer | None:
        """Who asks; None where nobody is signed in."""
        try:
            return self.officer(request)
        except SignedOut:
            return None

    def token(self, request: Request) -> str:
        """What the browser shows for its session; empty without."""
        return request.cookies.get(self.sessions.cookie, "")

    async def sweep(self) -> None:
        """End the sessions that are no longer good, and have each end written down. Once a second."""
        for token, session in self.sessions.all():
            if cause := self._why_over(session, self._member(session)):
                self.sessions.end(token, cause)
        while self._owed:
            try:
                await self._service.tell(self._owed[0])
            except EdgeError:
                return  # it is said as soon as the service answers again
            self._owed.popleft()

    def _member(self, session: Session) -> Member | None:
        try:
            return self._crew.member(session.number)
        except BadInput:
            return None

    def _why_over(self, session: Session, member: Member | None) -> str:
        if member is None:
            return "taken off the list"
        if member.stamp != session.stamp:
            return "the PIN was changed"
        try:
            require_trained(member.officer, datetime.now(UTC).date())
        except TrainingLapsed:
            return "training lapsed"
        return "idle" if self.sessions.over(session) else ""

    # -- in and out ----------------------------------------------------------------------------------

    async def sign_in_page(self, _: Request) -> Response:
        return self._page()

    def _page(self, status: int = 200, error: str = "") -> Response:
        numbers: tuple[str, ...] = ()
        try:
            numbers = self._crew.numbers()
        except BadInput as missing:
            error = error or str(missing)
        return self._html("signin.html", status=status, error=error, numbers=numbers)

    async def sign_in(self, request: Request) -> Response:
        form = await read_form(request)
        number, pin = form.get("number", ""), form.get("pin", "")
        if not number.isprintable() or not 1 <= len(number) <= 64 or not 1 <= len(pin) <= LONGEST_PIN:
            return self._page(403, "Choose your number and give your PIN.")
        mark = self.sessions.mark_name(number)
        browser = self.sessions.marked(number, request.cookies.get(mark, ""))
        attempt = Attempt(number, place_of(request), browser)
        try:
            self._guesses.begin(attempt)
            member = await self._look_at(number, pin, attempt.place)
        except TooManyGuesses as error:
            return self._page(429, str(error).replace("passwords", "PINs"))
        except (PolicyRefusal, BadInput) as error:
            return self._page(403, str(error))
        except ServiceSilent:
            self._guesses.undo(attempt)
            words = "The service does not answer, so that nobody can sign in. The page says how the van stands."
            return self._page(503, words)
        self._guesses.right(attempt)
        token = self.sessions.begin(number, member.stamp, next(self._seats))
        redirect = RedirectResponse("/", status_code=303)
        self._set_cookie(redirect, mark, self.sessions.new_mark(number), path="/signin", max_age=MARK_LIFE_S)
        self._set_cookie(redirect, self.sessions.cookie, token)
        return redirect

    async def _look_at(self, number: str, pin: str, place: str) -> Member:
        """Who this is, if they may work here today; the audit log has it then.

        Raises:
            PolicyRefusal: wrong number or PIN, or training out of date.
            BadInput: the list of the crew cannot be read.
            ServiceSilent: the audit log cannot be written.
        """
        try:
            async with self._deriving:
                member = await asyncio.to_thread(self._crew.authenticate, number, pin)
            require_trained(member.officer, datetime.now(UTC).date())
        except PolicyRefusal as error:
            await self._refused(number, type(error).__name__, place)
            raise
        await self._service.tell(NoteSignIn(number, str(member.officer.role), place))
        return member

    async def _refused(self, number: str, error: str, place: str) -> None:
        """Have it written down, but let nobody fill the disk with it."""
        now = asyncio.get_running_loop().time()
        if now - self._span >= LOGGED_SPAN_S:
            self._span, self._in_span = now, 0
        if self._in_span >= LOGGED:
            self._unlogged += 1
            return
        self._in_span += 1
        listed = number if self._crew.member(number) else NOT_LISTED
        try:
            await self._service.tell(NoteSignInRefused(listed, error, place, self._unlogged))
        except (ServiceSilent, NotDone):
            self._unlogged += 1
            return
        self._unlogged = 0

    def _set_cookie(self, answer: Response, name: str, value: str, **options: Any) -> None:
        answer.set_cookie(name, value, httponly=True, samesite="strict", secure=self._secure, **options)

    async def sign_out(self, request: Request) -> Response:
        await read_form(request)
        self.sessions.end(self.token(request), "signed out")
        answer = RedirectResponse("/", status_code=303)
        answer.delete_cookie(self.sessions.cookie, httponly=True, samesite="strict", secure=self._secure)
        return answer
