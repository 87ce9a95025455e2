"""The control room's page: Starlette, htmx, server-sent events; nothing is fetched from anywhere else.

What protects it: cookies that only this page may send (``SameSite=Strict``), a check of the address that was asked
for and of the origin of every change, a content security policy without inline code, sessions that end
(:mod:`edge.web.sessions`), and a pause after wrong passwords (:mod:`edge.web.guesses`). The rules
themselves are in :mod:`edge.controlroom.cases`.

What is wrong with the control room stands above the list, in red: that it fails and ends (:attr:`ControlRoom.failure`),
what it cannot do at the moment, and what a damaged store has cost. The browser itself says when the page can no
longer be reached (``room.js``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import jinja2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from edge.alert.publish import LinkState
from edge.controlroom import views
from edge.controlroom.cases import Case, Demographics, Result
from edge.controlroom.door import Door, SignedOut
from edge.controlroom.history import OUTCOMES, Asked, read_asked
from edge.controlroom.service import ControlRoom
from edge.errors import BadInput, EdgeError, EnvironmentFault, StoreDamaged, StoreUnavailable
from edge.officers import Officer
from edge.records import AlertRef
from edge.system.journal import get_logger
from edge.web import static as shared
from edge.web.guard import Headers, read_form

__all__ = ["Page", "create_app"]

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("theme.js", "room.js", "pictures.js", "sound.js")
STATIC = {"style.css": "text/css", **dict.fromkeys(SCRIPTS, "text/javascript")}
ASKED = {"engage": "decision", "correct": "whether it was the person on the list", "result": "what came of it"}
"""The questions of the forms, by the names of their fields."""
BEAT_S = 1.0


class Page:
    """The handlers, and what they remember between requests.

    Args:
        room: what is shown.
        secure: marks cookies for HTTPS only.
        hosts: names and addresses, in lower case, under which the page may be asked for.
    """

    def __init__(
        self, room: ControlRoom, *, secure: bool, hosts: Collection[str] = ("127.0.0.1", "localhost", "::1")
    ) -> None:
        self.beat: Callable[[], None] = lambda: None
        """Called about once a second while the event loop comes round."""
        self._room = room
        self._ending = False
        self.secure = secure
        self.hosts = frozenset(hosts)
        self.door = Door(room, secure=secure, html=self._html, changed=self._changed)
        self._listeners: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self._templates.filters["moment"] = lambda moment: f"{moment.astimezone():%-d %B %Y at %H:%M}"
        self._templates.filters["span"] = span_words
        self._templates.filters["clock"] = lambda moment: f"{moment.astimezone():%H:%M:%S}"

    # -- lifespan and events ---------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._room.on_change = self._changed
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()

    def end(self) -> None:
        """Let go of the browsers that listen, so that the server can end; may be called from any thread."""
        self._ending = True
        self._changed()

    def _changed(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the page has ended, and nobody listens
                loop.call_soon_threadsafe(self._wake_listeners)

    def _wake_listeners(self) -> None:
        for listener in self._listeners:
            listener.set()

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(BEAT_S)

    async def events(self, request: Request) -> Response:
        """Tell the page that something changed; it then fetches the list."""
        token = self.door.token(request)
        await self.door.officer(request, counts=False)
        listener = asyncio.Event()
        self._listeners.add(listener)

        async def stream() -> AsyncIterator[str]:
            try:
                yield "retry: 1000\n\nevent: changed\ndata: hello\n\n"
                while token in self.door.sessions and not self._ending:
                    try:
                        await asyncio.wait_for(listener.wait(), timeout=15)
                    except TimeoutError:
                        yield ": still here\n\n"
                        continue
                    listener.clear()
                    yield "event: changed\ndata: now\n\n"
            finally:
                self._listeners.discard(listener)

        return StreamingResponse(stream(), media_type="text/event-stream")

    # -- the page --------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        officer = await self.door.officer(request)
        return self._html("room.html", officer=officer, **await asyncio.to_thread(self._queue_values))

    async def queue(self, request: Request) -> Response:
        await self.door.officer(request, counts=False)
        return self._html("queue.html", again=True, **await asyncio.to_thread(self._queue_values))

    def _queue_values(self) -> dict[str, Any]:
        lines = self._room.desk.listed()
        return {**self._status_values(), **views.counts(lines), "cards": views.cards(lines, self._room.now())}

    def _status_values(self, troubles: Sequence[EnvironmentFault] = ()) -> dict[str, Any]:
        room = self._room
        delayed = {str(error): error for error in (*troubles, *room.delayed.values())}
        words = {LinkState.ONLINE: "Connected to the broker", LinkState.CONNECTING: "Connecting to the broker"}
        return {
            "failure": room.failure,
            "delayed": list(delayed.values()),
            "damages": list(room.damages),
            "vans": sorted(room.vans.values(), key=lambda line: line.van),
            "link": str(room.link),
            "link_words": words.get(
                room.link, "No connection to the broker: new alerts are not shown. It is tried again by itself"
            ),
            "trouble": room.trouble,
            "refused": room.refused,
            "unseen": 0,
            "engaged": 0,
            "cards": (),
        }

    async def alert(self, request: Request) -> Response:
        officer, ref = await self.door.officer(request), _ref(request)
        await asyncio.to_thread(self._room.desk.open_alert, ref, officer)
        return await asyncio.to_thread(self._detail, ref, officer)

    async def history(self, request: Request) -> Response:
        """Closed cases that are still held. What is asked for comes in a form, so that no browser keeps it."""
        officer = await self.door.officer(request)
        form = await read_form(request) if request.method == "POST" else {}
        error, status, asked = None, 200, Asked()
        try:
            asked = read_asked(form)
        except BadInput as refused:
            error, status = str(refused), 400
        found = await asyncio.to_thread(self._room.desk.history, asked, officer)
        return self._html(
            "history.html",
            status=status,
            error=error,
            cards=views.cards(found.lines, self._room.now()),
            found=found,
            form=form,
            outcomes=tuple(OUTCOMES),
        )

    async def sessions(self, request: Request) -> Response:
        """The officer's own sessions."""
        officer = await self.door.officer(request)
        return await asyncio.to_thread(self._sessions, officer, self.door.seat(request))

    async def end_session(self, request: Request) -> Response:
        """The officer ends one of their own sessions."""
        officer, form = await self.door.officer(request), await read_form(request)
        try:
            await asyncio.to_thread(self._room.end_session, officer, form.get("session", ""))
        except BadInput as error:
            return await asyncio.to_thread(self._sessions, officer, self.door.seat(request), 400, str(error))
        return RedirectResponse("/sessions", status_code=303)

    def _sessions(self, officer: Officer, mine: int, status: int = 200, error: str | None = None) -> Response:
        seats = self._room.sessions_of(officer)
        return self._html("sessions.html", status=status, error=error, officer=officer, seats=seats, mine=mine)

    async def picture(self, request: Request) -> Response:
        officer, ref = await self.door.officer(request), _ref(request)
        content = await asyncio.to_thread(self._room.desk.picture, ref, request.path_params["which"], officer)
        return Response(content, media_type="image/jpeg")

    async def decision(self, request: Request) -> Response:
        officer, ref, form = await self.door.officer(request), _ref(request), await read_form(request)
        return await self._act(
            ref,
            officer,
            lambda: self._room.desk.decide(
                ref,
                officer,
                engage=_choice(form, "engage", {"yes": True, "no": False}),
                reason=form.get("reason", ""),
                was=form.get("was"),
            ),
        )

    async def outcome(self, request: Request) -> Response:
        officer, ref, form = await self.door.officer(request), _ref(request), await read_form(request)

        def act() -> Case:
            correct = _choice(form, "correct", {"yes": True, "no": False, "unknown": None})
            demographics = None
            if correct is False:
                demographics = Demographics(*(form.get(name, "") for name in ("age_band", "sex", "ethnicity")))
            result = _choice(form, "result", {str(result): result for result in Result})
            return self._room.desk.close(ref, officer, correct=correct, result=result, demographics=demographics)

        return await self._act(ref, officer, act)

    async def _act(self, ref: AlertRef, officer: Officer, act: Callable[[], Case]) -> Response:
        try:
            case = await asyncio.to_thread(act)
        except StoreDamaged:
            raise
        except EdgeError as error:
            return await asyncio.to_thread(self._detail, ref, officer, 409, error=str(error))
        done = views.outcome_words(case) if case.closed_at else f"{case.decided}, because: {case.reason}"
        return await asyncio.to_thread(self._detail, ref, officer, done=done)

    def _detail(
        self, ref: AlertRef, officer: Officer, status: int = 200, *, error: str | None = None, done: str | None = None
    ) -> Response:
        case, stored = self._room.store.case(ref), self._room.store.alert(ref)
        if case is None or (stored is None and case.closed_at is not None and done is None):
            return self._html("problem.html", status=404, error="There is no such alert.")
        left_s = self._room.config.console.look_s - self._room.desk.looked(ref, officer).total_seconds()
        values = views.detail(case, stored.alert if stored else None, officer, now=self._room.now(), left_s=left_s)
        return self._html("detail.html", status=status, error=error, done=done, **values)

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name in STATIC:
            return FileResponse(PAGE / name, media_type=STATIC[name])
        return shared.answer(name)

    # -- helpers ---------------------------------------------------------------------------------

    def _html(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(template).render(values), status)

    async def on_signed_out(self, request: Request, _: Exception) -> Response:
        if request.headers.get("hx-request"):
            return Response(status_code=401, headers={"hx-redirect": "/signin"})
        return RedirectResponse("/signin", status_code=303)

    async def on_error(self, _: Request, error: Exception) -> Response:
        status = 403 if isinstance(error, EdgeError) and error.exit_code == 3 else 400
        return self._html("problem.html", status=status, error=str(error))

    async def on_damage(self, request: Request, error: Exception) -> Response:
        """The store cannot be read any more: nothing is left to show but that."""
        assert isinstance(error, StoreDamaged)
        self._room.damaged(error)
        if request.url.path == "/queue":
            return self._html("queue.html", again=True, away=True, **self._status_values())
        return self._html("problem.html", status=503, error=str(error))

    async def on_away(self, request: Request, error: Exception) -> Response:
        """The store cannot be reached: the page says so, shows nothing that may be out of date, and asks again."""
        assert isinstance(error, StoreUnavailable)
        if request.url.path == "/queue":
            return self._html("queue.html", again=True, away=True, **self._status_values([error]))
        status = 400 if self._room.store.shared is None else 503
        return self._html("problem.html", status=status, error=str(error))

    async def on_fault(self, request: Request, error: Exception) -> Response:
        """A fault in this program. One page is not shown; the others and the workers go on."""
        get_logger("control-room").error("page failed", route=request.url.path[:40], fault=type(error).__name__)
        words = "There is a fault in the program. Try again; if this comes back, call the engineer."
        return self._html("problem.html", status=500, error=words)


def _ref(request: Request) -> AlertRef:
    try:
        return AlertRef(request.path_params["van"], UUID(request.path_params["alert_id"]))
    except ValueError:
        raise BadInput("alert", "is not a valid address", "Open the alert from the list") from None


def span_words(seconds: int) -> str:
    """A span as the page writes it; ``room.js`` goes on counting in the same words."""
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _choice(form: dict[str, str], name: str, choices: dict[str, Any]) -> Any:
    if form.get(name) not in choices:
        raise BadInput(ASKED[name], "was not chosen", "Choose one of the answers")
    return choices[form[name]]


def create_app(page: Page) -> Starlette:
    """The application around a page."""
    handler = Callable[[Request], Awaitable[Response]]
    routes: list[tuple[str, str, handler]] = [
        ("GET", "/signin", page.door.sign_in_page),
        ("POST", "/signin", page.door.sign_in),
        ("POST", "/signout", page.door.sign_out),
        ("GET", "/", page.home),
        ("GET", "/queue", page.queue),
        ("GET", "/events", page.events),
        ("GET", "/alerts/{van}/{alert_id}", page.alert),
        ("GET", "/alerts/{van}/{alert_id}/{which:str}.jpg", page.picture),
        ("POST", "/alerts/{van}/{alert_id}/decision", page.decision),
        ("POST", "/alerts/{van}/{alert_id}/outcome", page.outcome),
        ("GET", "/history", page.history),
        ("POST", "/history", page.history),
        ("GET", "/sessions", page.sessions),
        ("POST", "/sessions", page.end_session),
        ("GET", "/static/{name}", page.static),
    ]
    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for method, path, endpoint in routes],
        exception_handlers={
            SignedOut: page.on_signed_out,
            StoreDamaged: page.on_damage,
            StoreUnavailable: page.on_away,
            EdgeError: page.on_error,
            Exception: page.on_fault,
        },
        lifespan=page.lifespan,
    )
    app.add_middleware(Headers, hosts=page.hosts, secure=page.secure)
    return app
