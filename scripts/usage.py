"""What each script does first: say how it is used, before it imports anything that may not be installed."""

from __future__ import annotations

import sys

__all__ = ["on_request"]


def on_request(text: str | None) -> None:
    """Print ``text`` and end when the first argument asks for help."""
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print((text or "").strip())
        sys.exit(0)
