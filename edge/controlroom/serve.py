"""``lfr-control console`` and ``lfr-control staff``: run the page, keep the officers' list."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import uvicorn

from edge.controlroom import config as configuration
from edge.controlroom.casebook import Casebook
from edge.controlroom.config import ConsoleSection
from edge.controlroom.service import ControlRoom
from edge.controlroom.web import create_app
from edge.errors import ConfigInvalid, KeyUnusable
from edge.trust.secret import read_secret

__all__ = ["open_casebook", "serve"]


def serve(path: Path) -> None:
    """Run the page until it is interrupted.

    Raises:
        ConfigInvalid: the file is wrong, or the page would be open to others without TLS.
        EdgeError: a key, a store or the log cannot be used.
    """
    config = configuration.load(path)
    console = config.console
    secure = bool(console.certificate)
    if not secure and not _loopback(console):
        raise ConfigInvalid(
            f"{path}: key console.host",
            f"is {console.host}: beyond this machine the page needs TLS",
            "Set console.certificate and console.certificate_key, or listen on 127.0.0.1",
        )
    tls = {}
    if secure:
        certificate, key = config.path(console.certificate), config.path(console.certificate_key)
        for file in (certificate, key):
            if not file.is_file():
                raise KeyUnusable(str(file), "is not there", "Give the page's certificate and key")
        tls = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    room = ControlRoom.open(config)
    try:
        room.start()
        uvicorn.run(
            create_app(room, secure=secure),
            host=console.host,
            port=console.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            **tls,  # type: ignore[arg-type]
        )
    finally:
        room.stop()


def _loopback(console: ConsoleSection) -> bool:
    try:
        return ipaddress.ip_address(console.host).is_loopback
    except ValueError:
        return console.host == "localhost"


def open_casebook(path: Path) -> Casebook:
    """The casebook that the configuration at ``path`` names.

    Raises:
        EdgeError: the configuration, key or store cannot be used.
    """
    config = configuration.load(path)
    key = read_secret(config.store.key, Path(config.base))
    return Casebook(config.path(config.store.directory) / "casebook.db", key)
