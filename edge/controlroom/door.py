"""The page's door: what reaches it at all, who is let in, and how they leave.

A request is answered when it was sent to an address of this page; a form is read when it was sent from this page, in
time and not too long. Whoever signs in is looked at by :mod:`edge.controlroom.signin`, as often as
:mod:`edge.controlroom.guesses` allows.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.clock import SystemClock
from edge.controlroom.cases import Officer, TrainingLapsed, require_trained
from edge.controlroom.guesses import Attempt, Guesses, TooManyGuesses
from edge.controlroom.officers import LONGEST_NUMBER
from edge.controlroom.service import ControlRoom
from edge.controlroom.sessions import MARK_LIFE_S, Sessions
from edge.controlroom.signin import Claim, TooManyAtOnce
from edge.errors import BadInput, PolicyRefusal

__all__ = ["Door", "Headers", "SignedOut", "read_form"]

LONGEST_FORM = 8 * 1024
FORM_S = 10.0
"""How long a browser may take to send a form."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
}
HSTS = {"strict-transport-security": "max-age=31536000"}
"""Only where the page is served over TLS: a browser that was here once comes by no other way."""


class SignedOut(Exception):
    """The request carries no session that is still good."""


class Headers:
    """Refuses what was not sent to this page's address, and adds :data:`HEADERS` to every answer.

    As plain ASGI, so that event streams are not buffered.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], secure: bool) -> None:
        self._app = app
        self._hosts = hosts
        self._headers = [(k.encode(), v.encode()) for k, v in (HEADERS | (HSTS if secure else {})).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        if scope["type"] == "http" and not self._meant(scope):
            answer = PlainTextResponse("This is not the address of the control room's page.", 421)
            await answer(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers if scope["type"] == "http" else send)

    def _meant(self, scope: Scope) -> bool:
        named = [value for name, value in scope["headers"] if name == b"host"]
        try:
            host = urlsplit(f"//{named[0].decode('ascii')}").hostname if len(named) == 1 else None
        except ValueError:
            return False
        return host is not None and host in self._hosts


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

    async def officer(self, request: Request, *, counts: bool = True) -> Officer:
        """Who asks. ``counts``: whether this request is a sign of life.

        Raises:
            SignedOut: nobody, idle for too long, training lapsed, password changed or taken off the list meanwhile.
        """
        token = self.token(request)
        session = self.sessions.find(token)
        if session is None:
            raise SignedOut
        known = await asyncio.to_thread(self._room.store.officers.known, session.number)
        if known is None or known[1] != session.stamp:
            self.sessions.end(token, "taken off the list" if known is None else "the password was changed")
            raise SignedOut
        try:
            require_trained(known[0], self._room.now().date())
        except TrainingLapsed:
            self.sessions.end(token, "training lapsed")
            raise SignedOut from None
        if counts:
            self.sessions.alive(session)
        return known[0]

    def token(self, request: Request) -> str:
        """What the browser shows for its session; empty without."""
        return request.cookies.get(self.sessions.cookie, "")

    async def sign_in_page(self, _: Request) -> Response:
        return self._html("signin.html", error=None)

    async def sign_in(self, request: Request) -> Response:
        form = await read_form(request)
        number, password = form.get("number", ""), form.get("password", "")
        if not number.isprintable() or len(number) > LONGEST_NUMBER:
            return self._html("signin.html", status=403, error="Give your officer's number and password.")
        mark = self.sessions.mark_name(number)
        browser = self.sessions.marked(number, request.cookies.get(mark, ""))
        attempt = Attempt(number, _place(request), browser)
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
        token = self.sessions.begin(found.officer.number, found.stamp)
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


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form that was sent from this very page.

    Raises:
        BadInput: from elsewhere, too large, or broken off.
    """
    if _origin(request) != request.headers.get("host"):
        raise BadInput("form", "was not sent from this page", "Reload the page and try again")
    body = b""
    try:
        async with asyncio.timeout(FORM_S):
            async for part in request.stream():
                body += part
                if len(body) > LONGEST_FORM:
                    raise BadInput("form", "is too long", "Write less")
    except TimeoutError:
        raise BadInput("form", "did not arrive in time", "Check the network and try again") from None
    except ClientDisconnect:  # anybody can do that without end, and each would be a fault in the journal
        raise BadInput("form", "was broken off", "Check the network and try again") from None
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _origin(request: Request) -> str | None:
    """The host and port of the page that a form was sent from; None where it does not say, or says nonsense."""
    try:
        return urlsplit(request.headers["origin"]).netloc
    except (KeyError, ValueError):
        return None


def _place(request: Request) -> str:
    """The address that a request comes from; of IPv6 the network, which one machine has for itself."""
    try:
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
