"""What reaches a page at all.

A request is answered when it was sent to an address of this page; a form is read when it was sent from this page, in
time and not too long; and every answer says that nothing of it may be kept, framed, or run from elsewhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.errors import BadInput

__all__ = ["Headers", "place_of", "read_form"]

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
            answer = PlainTextResponse("This is not the address of this page.", 421)
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


def place_of(request: Request) -> str:
    """The address that a request comes from; of IPv6 the network, which one machine has for itself."""
    try:
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
