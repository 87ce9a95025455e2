"""The scripts that every page shares; ``NOTICE.md`` says where they come from."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse, Response

__all__ = ["answer"]

HERE = Path(__file__).parent
FILES = {"htmx.min.js": "text/javascript", "sse.min.js": "text/javascript"}


def answer(name: str) -> Response:
    """A file of this folder; 404 for any other."""
    return FileResponse(HERE / name, media_type=FILES[name]) if name in FILES else Response(status_code=404)
