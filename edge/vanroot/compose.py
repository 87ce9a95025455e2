"""A van's configuration: what the image and the enrolment say, and the little that a deployment may add.

Nothing that trust rests on comes from a medium. Who the van is, whom it believes, its keys, its broker, how it knows
where and when it is come from the image (:data:`_IMAGE`) and from the answer that it was enrolled with; a deployment's
``lfr.toml`` may set what stands in :data:`ALLOWED`. Anything else in it is refused by name.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from typing import Any

__all__ = ["ALLOWED", "compose", "is_live", "source_of"]

ALLOWED = {
    "deployment": ("id", "place"),
    "camera": ("source", "pace", "max_fps", "width", "height", "pixel_format", "turn", "reconnect_s", "stall_s"),
    "models": ("detector", "second", "threads"),
    "track": ("confirm_frames", "patience_ms"),
    "decision": ("threshold", "min_similarity", "votes", "window"),
}
"""What a deployment may set. Votes, window and threshold are judged by the gate against the authority's budget."""
LONGEST = 1000
_LIVE = ("/dev/video", "rtsp://", "rtsps://")
_MINE = "/data/lfr"
_IMAGE: dict[str, dict[str, Any]] = {
    "watchlist": {"identity": f"{_MINE}/van.age.key", "revokers": f"{_MINE}/revokers.jwks"},
    "repository": {"source": "/ops/lfr/repository", "root": f"{_MINE}/root.json"},
    "clock": {"require_confirmed": True},
    "store": {"directory": f"{_MINE}/state", "key": f"{_MINE}/outbox.key"},
    "memory": {"lock": True, "refuse_swap": True},
    "alert": {
        "ca": f"{_MINE}/ca.crt",
        "certificate": f"{_MINE}/van.crt",
        "certificate_key": f"{_MINE}/van.key",
        "signing_key": f"{_MINE}/van-signing.jwk",
        "recipients": f"{_MINE}/control-room.jwks",
        "control_rooms": f"{_MINE}/control-signing.jwks",
    },
}


def is_live(source: str) -> bool:
    """Whether a camera's source is a device or a stream; anything else is a file beside ``lfr.toml``."""
    return source.startswith(_LIVE)


def compose(deployment: bytes, answer: bytes) -> tuple[str, str]:
    """Put a van's configuration together.

    Args:
        deployment: the deployment's ``lfr.toml``.
        answer: the ``answer.json`` that the van took in at its enrolment.

    Returns:
        The configuration's text, and the camera's source.

    Raises:
        ValueError: the deployment sets something that it may not, or one of the two cannot be read; says which.
    """
    asked = _read(deployment)
    for table, content in asked.items():
        if not isinstance(content, dict):
            raise ValueError(f"lfr.toml sets {_name(table)}, which no deployment may set")  # noqa: TRY004 - it was read
        for key, value in content.items():
            if key not in ALLOWED.get(table, ()):
                raise ValueError(f"lfr.toml sets {_name(table)}.{_name(key)}, which no deployment may set")
            _judge(f"{table}.{key}", value)
    source = _source(asked)
    if source and not is_live(source) and ("/" in source or "\\" in source or source.startswith(".")):
        raise ValueError("lfr.toml sets camera.source to something that is neither a camera nor a file beside it")
    whole = {**asked, **_enrolled(answer)}
    lines = []
    for table, content in whole.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {_text(value)}" for key, value in content.items()]
    return "\n".join(lines) + "\n", source


def _name(text: str) -> str:
    """A name out of a stranger's file, as it may be said."""
    return "".join(c if c.isprintable() else "?" for c in text[:60])


def source_of(configuration: bytes) -> str:
    """The camera's source in a configuration; empty when it names none.

    Raises:
        ValueError: it cannot be read.
    """
    return _source(_read(configuration))


def _source(asked: Mapping[str, Any]) -> str:
    return str(asked.get("camera", {}).get("source", ""))


def _read(deployment: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(deployment.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"lfr.toml cannot be read ({_name(str(error)) or 'it is too deep'})") from None


def _judge(key: str, value: object) -> None:
    good = (
        (isinstance(value, str) and len(value) <= LONGEST and value.isprintable())
        or (isinstance(value, float) and math.isfinite(value))
        or isinstance(value, int)
    )
    if not good:
        raise ValueError(f"lfr.toml sets {key} to something that is no number and no short text")


def _enrolled(answer: bytes) -> dict[str, dict[str, Any]]:
    try:
        said: Mapping[str, Any] = json.loads(answer)
        van = str(said["van"])
        broker = {"host": str(said["broker"]["host"]), "port": int(said["broker"]["port"])}
        fixed, gpsd = said["position"]["fixed"], str(said["position"]["gpsd"])
        position = {"fixed": [float(fixed[0]), float(fixed[1])]} if fixed is not None else {"gpsd": gpsd}
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        raise ValueError("this van's enrolment cannot be read; enrol it again") from None
    return {**_IMAGE, "van": {"id": van}, "position": position, "alert": {**_IMAGE["alert"], **broker}}


def _text(value: object) -> str:
    """A value as TOML writes it; its strings and numbers are those of JSON."""
    return json.dumps(value, ensure_ascii=False)
