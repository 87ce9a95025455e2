"""Configuration of a mosquitto that lets each van speak on its own topics only.

Identity is the certificate: its common name becomes the user name and the client's identifier, and ``pattern`` rules
put that name into the topic. So a certificate is one connection: nobody takes over that of another, and each console,
watcher and van needs its own. A bridge speaks with the certificate of its van, in the van's place. There is no
anonymous client, no password and no plain-text port.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.alert import topics
from edge.alert.discovery import NODE
from edge.alert.message import MAX_MESSAGE
from edge.errors import EnvironmentFault, KeyUnusable
from edge.trust.tls import common_name
from provisioning.site import CONTROL_ROOM, HOME_ASSISTANT, room_names, watcher_names

__all__ = ["write_bridge", "write_broker"]

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
# And its name is the client's: who has another certificate cannot take a connection over, whatever it calls itself.
use_username_as_clientid true
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
# No limit of messages under way: mosquitto 2.0.11 loses count of one and then sends nothing until the client
# connects again. The receiver slows the broker down through its socket instead.
max_inflight_messages 0
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
pattern write {root}/%u/{checkpoint}
pattern read {root}/%u/{receipt}
pattern read {root}/%u/{adjudication}
pattern read {root}/%u/{revocation}
"""
_ACL_ROOM = """\

user {room}
topic read {root}/+/{alert}
topic read {root}/+/{state}
topic read {root}/+/{health}
topic read {root}/+/{checkpoint}
topic write {root}/+/{receipt}
topic write {root}/+/{adjudication}
topic write {root}/+/{revocation}
topic write {root}/{control_room}/{checkpoint}
"""
_ACL_WATCHER = """
# Hears what the control room hears, and says nothing.
user {watcher}
topic read {root}/+/{alert}
topic read {root}/+/{state}
topic read {root}/+/{health}
topic read {root}/+/{checkpoint}
"""
_ACL_DISCOVERY = """
# Home Assistant sees who is there and counters, and what the vans say these are; no alert.
pattern write {prefix}/device/{node}/%u/config

user {home_assistant}
topic read {root}/+/{state}
topic read {root}/+/{health}
topic read {prefix}/#
topic write {prefix}/status
"""

_BRIDGE = """\
# Made by: lfr-provision van bridge. Mosquitto 2.0 or newer. The van speaks to this broker on its own machine;
# it keeps what the control room's broker has not acknowledged, over restarts, and passes it on.
per_listener_settings false
listener {port} 127.0.0.1
user {user}
cafile {folder}/ca.crt
certfile {folder}/bridge.crt
keyfile {folder}/bridge.key
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/bridge/acl

persistence true
persistence_location {folder}/bridge/
autosave_on_changes true
autosave_interval 1
max_packet_size {max_packet}
max_queued_messages 20000
allow_zero_length_clientid false
sys_interval 0
log_dest {log}
log_type error
log_type warning
log_type notice

connection {van}-bridge
address {host}:{remote_port}
remote_clientid {van}
bridge_protocol_version mqttv50
bridge_cafile {folder}/ca.crt
bridge_certfile {folder}/van.crt
bridge_keyfile {folder}/van.key
bridge_tls_version tlsv1.3
# Without these two an outage loses what was in flight.
cleansession false
try_private false
notifications false
keepalive_interval 20
restart_timeout 1 30
start_type automatic
topic {alert} out 1 {root}/{van}/ {root}/{van}/
topic {state} out 1 {root}/{van}/ {root}/{van}/
topic {health} out 0 {root}/{van}/ {root}/{van}/
topic {checkpoint} out 0 {root}/{van}/ {root}/{van}/
topic {receipt} in 0 {root}/{van}/ {root}/{van}/
topic {adjudication} in 1 {root}/{van}/ {root}/{van}/
topic {revocation} in 1 {root}/{van}/ {root}/{van}/
"""

_KINDS = {"root": topics.ROOT, **{kind: kind for kind in topics.KINDS}}


def write_bridge(
    folder: Path, host: str, remote_port: int, *, port: int = 8883, user: str = "mosquitto", log: str = "stderr"
) -> Path:
    """Write the configuration of a broker on the van that passes everything on; returns its path.

    Args:
        folder: the van's files, as enrolment made them.
        host: the control room's broker.
        remote_port: its TCP port.
        port: where the bridge listens on the van's loopback.
        user: the account that mosquitto drops to when it was started as root.
        log: mosquitto's ``log_dest``.

    Raises:
        KeyUnusable: the folder is not an enrolled van's.
        EnvironmentFault: the folder cannot be written.
    """
    folder = folder.resolve()
    if not (folder / "bridge.key").exists():
        raise KeyUnusable(str(folder), "holds no key for the van's own broker", "Enrol the van first")
    van = common_name(folder / "van.crt")
    own = "pattern read {root}/%u/{kind}\npattern write {root}/%u/{kind}\n"
    rules = "".join(own.format(root=topics.ROOT, kind=kind) for kind in topics.KINDS)
    try:
        (folder / "bridge").mkdir(exist_ok=True, mode=0o700)
        (folder / "bridge" / "acl").write_text(rules)
        (folder / "bridge" / "acl").chmod(0o600)
        conf = folder / "bridge" / "mosquitto.conf"
        conf.write_text(
            _BRIDGE.format(
                folder=folder,
                host=host,
                remote_port=remote_port,
                port=port,
                user=user,
                log=log,
                van=van,
                max_packet=MAX_MESSAGE + 4096,
                **_KINDS,
            )
        )
    except OSError as error:
        raise EnvironmentFault(str(folder), f"cannot be written ({error.strerror})", "Check who owns it") from None
    if os.geteuid() == 0 and user != "root":
        _give(folder / "bridge", user)
    return conf


def write_broker(
    site: Path,
    *,
    port: int = 8883,
    address: str = "",
    user: str = "mosquitto",
    log: str = "stderr",
    discovery: str = "",
) -> Path:
    """Write ``mosquitto.conf`` and ``acl`` into the site's broker folder; returns the path of the former.

    Args:
        site: see :mod:`provisioning.site`.
        port: TCP port to listen on.
        address: address to listen on; all when empty.
        user: the account that mosquitto drops to when it was started as root; it must be able to read the folder.
        log: mosquitto's ``log_dest``.
        discovery: prefix under which vans may describe their counters to Home Assistant; empty: nowhere.

    Raises:
        KeyUnusable: there is no site.
        EnvironmentFault: the folder cannot be written.
    """
    folder = site.resolve() / "broker"
    if not (folder / "broker.key").exists():
        raise KeyUnusable(str(folder), "holds no broker's key", "Run lfr-provision init first")
    state = folder / "state"
    try:
        state.mkdir(exist_ok=True, mode=0o700)
        watchers = "".join(_ACL_WATCHER.format(watcher=name, **_KINDS) for name in watcher_names(site))
        rooms = "".join(
            _ACL_ROOM.format(room=name, control_room=CONTROL_ROOM, **_KINDS)
            for name in (CONTROL_ROOM, *room_names(site))
        )
        rules = _ACL + (_ACL_DISCOVERY if discovery else "")
        names = {"control_room": CONTROL_ROOM, "home_assistant": HOME_ASSISTANT, "prefix": discovery, "node": NODE}
        (folder / "acl").write_text(rules.format(**names, **_KINDS) + rooms + watchers)
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
