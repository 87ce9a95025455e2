"""The crew's page: Starlette, htmx, server-sent events; nothing is fetched from anywhere else.

How the van stands is shown to whoever stands before the van's own screen or holds an enrolled tablet: nothing of a
person is in it. What changes anything needs an officer who has signed in (:mod:`edge.console.door`). What the page
cannot know itself it asks of the service (:mod:`edge.console.service`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from edge.config import PageSection
from edge.console.crew import Crew
from edge.console.door import Door, SignedOut
from edge.console.pulse import Pulse
from edge.console.service import Service
from edge.console.views import PAGE, render, state_values
from edge.console.wire import AskEnd
from edge.errors import BadInput, EdgeError
from edge.system.journal import get_logger
from edge.web import static as shared
from edge.web.guard import Headers, read_form

__all__ = ["CrewPage", "create_app"]

STATIC = {"crew.css": "text/css", **dict.fromkeys(("crew.js", "theme.js", "keypad.js"), "text/javascript")}
REASONS = (
    "the work here is done",
    "the weather",
    "an incident elsewhere",
    "a technical fault",
    "an order of the authorising officer",
    "a complaint or protest",
)
"""Why a crew ends a deployment; chosen, because nobody can type in a van."""


class CrewPage:
    """The handlers.

    Args:
        settings: of the page.
        crew: who may sign in.
        service: is asked and told.
        pulse: knows how the van stands.
        secure: whether this page is served over TLS.
        hosts: names and addresses, in lower case, under which it may be asked for.
    """

    def __init__(
        self,
        settings: PageSection,
        crew: Crew,
        service: Service,
        pulse: Pulse,
        *,
        secure: bool,
        hosts: frozenset[str],
    ) -> None:
        self.service = service
        self.pulse = pulse
        self.secure = secure
        self.hosts = hosts
        self.door = Door(crew, service, idle_s=settings.idle_min * 60, secure=secure, html=self.html)
        pulse.on_turn.append(self.door.sweep)

    # -- the page --------------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        officer = self.door.anybody(request)
        values = state_values(*await self.pulse.ask(), datetime.now(UTC))
        return self.html("crew.html", officer=officer, **values)

    async def events(self, _: Request) -> Response:
        return StreamingResponse(self.pulse.events(), media_type="text/event-stream")

    async def view(self, request: Request) -> Response:
        """What a camera sees, with every face covered; 204 while there is no picture."""
        self.door.officer(request, counts=False)
        _, picture = await self.service.picture(request.path_params["camera"], 0)
        return Response(picture, media_type="image/jpeg") if picture else Response(status_code=204)

    async def self_test(self, request: Request) -> Response:
        self.door.officer(request)
        await read_form(request)
        try:
            found = await self.service.checks()
        except EdgeError as error:
            return self.html("checks.html", error=str(error), lines=())
        return self.html("checks.html", lines=found.lines)

    async def end_page(self, request: Request) -> Response:
        self.door.officer(request)
        return self.html("end.html", reasons=REASONS)

    async def end(self, request: Request) -> Response:
        officer, form = self.door.officer(request), await read_form(request)
        if form.get("reason") not in REASONS:
            raise BadInput("the reason", "was not chosen", "Choose one of the answers")
        if form.get("sure") != "yes":
            raise BadInput("the end", "was not confirmed", "Tick that you are sure")
        await self.service.tell(AskEnd(officer.number, form["reason"]))
        return self.html("end.html", done=True)

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        return FileResponse(PAGE / name, media_type=STATIC[name]) if name in STATIC else shared.answer(name)

    # -- helpers ---------------------------------------------------------------------------------------

    def html(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A template as an answer."""
        return HTMLResponse(render(template, **values), status)

    async def on_signed_out(self, request: Request, _: Exception) -> Response:
        if request.headers.get("hx-request"):
            return Response(status_code=401, headers={"hx-redirect": "/signin"})
        return RedirectResponse("/signin", status_code=303)

    async def on_error(self, _: Request, error: Exception) -> Response:
        status = 403 if isinstance(error, EdgeError) and error.exit_code == 3 else 400
        return self.html("problem.html", status=status, error=str(error))

    async def on_fault(self, request: Request, error: Exception) -> Response:
        """A fault in this program: one page is not shown, the others go on."""
        get_logger("page").error("page failed", route=request.url.path[:40], fault=type(error).__name__)
        words = "There is a fault in the program. Try again; if this comes back, call the engineer."
        return self.html("problem.html", status=500, error=words)


def create_app(page: CrewPage) -> Starlette:
    """The application around a page."""
    handler = Callable[[Request], Awaitable[Response]]
    routes: list[tuple[str, str, handler]] = [
        ("GET", "/", page.home),
        ("GET", "/events", page.events),
        ("GET", "/signin", page.door.sign_in_page),
        ("POST", "/signin", page.door.sign_in),
        ("POST", "/signout", page.door.sign_out),
        ("GET", "/view/{camera:str}.jpg", page.view),
        ("POST", "/self-test", page.self_test),
        ("GET", "/end", page.end_page),
        ("POST", "/end", page.end),
        ("GET", "/static/{name}", page.static),
    ]
    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for method, path, endpoint in routes],
        exception_handlers={SignedOut: page.on_signed_out, EdgeError: page.on_error, Exception: page.on_fault},
    )
    app.add_middleware(Headers, hosts=page.hosts, secure=page.secure)
    return app
