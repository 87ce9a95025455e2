"""Configuration of a mosquitto that lets each van speak on its own topics only.

Identity is the certificate: its common name becomes the user name, and ``pattern`` rules put that name into
the topic. There is no anonymous client, no password and no plain-text port.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.alert import topics
from edge.alert.link import IN_FLIGHT
from edge.alert.message import MAX_MESSAGE
from edge.errors import EnvironmentFault, KeyUnusable
from provisioning.site import CONTROL_ROOM

__all__ = ["write_broker"]

_CONF = """\
# Made by: lfr-provision broker. Mosquitto 2.0 or newer.
per_listener_settings false
listener {port}{address}
user {user}

# TLS 1.3 both ways: who has no certificate of this site, or a revoked one, gets no further.
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
crlfile {folder}/crl.pem
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder}/acl

# What is acknowledged is on disk: saved after every change, not every half hour.
persistence true
persistence_location {state}/
autosave_on_changes true
autosave_interval 1
persistent_client_expiration 14d

# Limits: one alert is at most {max_message} bytes; a control room may be away for a day of alerts.
max_packet_size {max_packet}
max_inflight_messages {in_flight}
max_queued_messages 20000
max_queued_bytes 1073741824
max_keepalive 120
max_connections 2000
allow_zero_length_clientid false
retain_available true
sys_interval 0

connection_messages true
log_dest {log}
log_type error
log_type warning
log_type notice
"""

_ACL = """\
# Made by: lfr-provision broker. %u is the common name of the client's certificate.
pattern write {root}/%u/{alert}
pattern write {root}/%u/{state}
pattern write {root}/%u/{health}
pattern read {root}/%u/{adjudication}
pattern read {root}/%u/{revocation}

user {control_room}
topic read {root}/+/{alert}
topic read {root}/+/{state}
topic read {root}/+/{health}
topic write {root}/+/{adjudication}
topic write {root}/+/{revocation}
"""


def write_broker(
    site: Path, *, port: int = 8883, address: str = "", user: str = "mosquitto", log: str = "stderr"
) -> Path:
    """Write ``mosquitto.conf`` and ``acl`` into the site's broker folder; returns the path of the former.

    Args:
        site: see :mod:`provisioning.site`.
        port: TCP port to listen on.
        address: address to listen on; all when empty.
        user: the account that mosquitto drops to when it was started as root; it must be able to read the folder.
        log: mosquitto's ``log_dest``.

    Raises:
        KeyUnusable: there is no site.
        EnvironmentFault: the folder cannot be written.
    """
    folder = site.resolve() / "broker"
    if not (folder / "broker.key").exists():
        raise KeyUnusable(str(folder), "holds no broker's key", "Run lfr-provision init first")
    state = folder / "state"
    kinds = {
        "alert": topics.ALERT, "state": topics.STATE, "health": topics.HEALTH,
        "adjudication": topics.ADJUDICATION, "revocation": topics.REVOCATION,
    }  # fmt: skip
    try:
        state.mkdir(exist_ok=True, mode=0o700)
        (folder / "acl").write_text(_ACL.format(root=topics.ROOT, control_room=CONTROL_ROOM, **kinds))
        (folder / "acl").chmod(0o600)
        conf = folder / "mosquitto.conf"
        conf.write_text(
            _CONF.format(
                port=port,
                address=f" {address}" if address else "",
                user=user,
                folder=folder,
                state=state,
                max_message=MAX_MESSAGE,
                in_flight=IN_FLIGHT,
                max_packet=MAX_MESSAGE + 4096,
                log=log,
            )
        )
    except OSError as error:
        raise EnvironmentFault(str(folder), f"cannot be written ({error.strerror})", "Check who owns it") from None
    if os.geteuid() == 0 and user != "root":
        _give(folder, user)
    return conf


def _give(folder: Path, user: str) -> None:
    try:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, user)
    except LookupError:
        raise EnvironmentFault(f"account {user}", "does not exist here", "Install mosquitto, or give --user") from None
