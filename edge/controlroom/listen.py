"""Where the control room's page listens, as ``control.toml`` says; see :mod:`edge.web.listen`."""

from __future__ import annotations

from edge.controlroom.config import ControlConfig
from edge.errors import ConfigInvalid
from edge.web.listen import Tls, is_loopback
from edge.web.listen import host_names as known_names

__all__ = ["host_names", "tls"]


def tls(config: ControlConfig) -> Tls | None:
    """What the page needs for TLS; nothing when it listens on this machine only.

    Raises:
        ConfigInvalid: it would be open to others without TLS.
        KeyUnusable: its certificate or key is not there.
    """
    console = config.console
    if not console.certificate:
        if not is_loopback(console.host):
            raise ConfigInvalid(
                "key console.host",
                f"is {console.host}: beyond this machine the page needs TLS",
                "Set console.certificate and console.certificate_key, or listen on 127.0.0.1",
            )
        return None
    given = Tls(config.path(console.certificate), config.path(console.certificate_key))
    given.check()
    return given


def host_names(config: ControlConfig) -> frozenset[str]:
    """Names and addresses under which the page is asked for: its certificate's, its own, those of ``console.names``.

    Raises:
        KeyUnusable: the certificate cannot be read.
    """
    console = config.console
    return known_names(console.host, config.path(console.certificate) if console.certificate else None, console.names)
