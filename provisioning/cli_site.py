"""``lfr-provision init``, ``broker`` and ``van``: a site, its broker, its vans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.commandline import AsJson, commands, show

__all__ = ["register"]

SiteOption = Annotated[Path, typer.Option("--site", help="the site's folder, made by init")]
JsonOption = Annotated[bool, AsJson]

van_app = commands("Give vans their identity, and take it back.")


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(init)
    app.command()(broker)
    app.command()(watcher)
    app.command()(room)
    app.add_typer(van_app, name="van")


def init(
    folder: Annotated[Path, typer.Argument(help="new folder for the site")],
    host: Annotated[list[str] | None, typer.Option(help="name or address of the broker; repeat for several")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="the broker's TCP port")] = 8883,
    as_json: JsonOption = False,
) -> None:
    """Make a site: its certificate authority, the broker's certificate, the control room's certificate and keys."""
    from provisioning.site import CONTROL_ROOM, init_site

    init_site(folder, tuple(host or ("localhost", "127.0.0.1", "::1")), port)
    lines = [
        f"{folder}/ca holds the certificate authority's key: put it on a stick of its own, and lock that away.",
        f"{folder}/{CONTROL_ROOM} goes to the control room, {folder}/broker to the broker.",
    ]
    parts = {"authority": "ca", "control_room": CONTROL_ROOM, "broker": "broker"}
    show({name: str(folder / part) for name, part in parts.items()}, lines, as_json=as_json)


def broker(
    folder: Annotated[Path, typer.Argument(help="the site's folder, made by init")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port")] = 8883,
    address: Annotated[str, typer.Option(help="address to listen on; all when empty")] = "",
    user: Annotated[str, typer.Option(help="account that mosquitto runs as when started as root")] = "mosquitto",
    log: Annotated[str, typer.Option(help="mosquitto's log_dest")] = "stderr",
    discovery: Annotated[
        str, typer.Option(help="let vans describe their counters to Home Assistant under this prefix (homeassistant)")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Write mosquitto.conf and its access rules into the site's broker folder."""
    from provisioning.broker import write_broker
    from provisioning.site import init_home_assistant

    assistant = init_home_assistant(folder) if discovery else None
    conf = write_broker(folder, port=port, address=address, user=user, log=log, discovery=discovery)
    lines = [f"Run: mosquitto -c {conf}"]
    if assistant is not None:
        lines.insert(0, f"{assistant} goes to Home Assistant: its certificate and key for the broker.")
    document = {"configuration": str(conf), "home_assistant": str(assistant) if assistant else None}
    show(document, lines, as_json=as_json)


def watcher(
    name: Annotated[str, typer.Argument(help="its name: control-room-NAME")],
    site: SiteOption,
    as_json: JsonOption = False,
) -> None:
    """Give one more lfr-control watch a certificate of its own: the broker lets each speak to it once at a time."""
    from provisioning.site import add_watcher

    made = add_watcher(name, site)
    lines = [
        f"{made} goes to the control room, with its key beside it.",
        "Run lfr-provision broker again and have the broker read its rules anew (SIGHUP), then:",
        f"lfr-control watch --name {name}",
    ]
    show({"name": name, "certificate": str(made)}, lines, as_json=as_json)


def room(
    name: Annotated[str, typer.Argument(help="its name among the rooms: small letters, digits, hyphens")],
    site: SiteOption,
    out: Annotated[
        Path | None, typer.Option(help="new folder for the room's files; SITE/room-NAME if not given")
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="take the room's certificate back")] = False,
    as_json: JsonOption = False,
) -> None:
    """Enrol a further control room that shares the store, or take its certificate back."""
    from provisioning.rooms import add_room, revoke_room

    folder = None if revoke else add_room(name, site, out or site / f"room-{name}")
    if folder is None:
        revoke_room(name, site)
    lines = [
        f"The certificate of room {name} is revoked; it still knows the keys that the rooms share."
        if folder is None
        else f"{folder} goes to room {name}, on an encrypted medium: it holds the keys that the rooms share.",
        "Run lfr-provision broker again, give the broker its folder and restart it.",
    ]
    show({"name": name, "folder": str(folder) if folder else None, "revoked": revoke}, lines, as_json=as_json)


@van_app.command()
def enrol(
    van: Annotated[str, typer.Argument(help="the van's name")],
    site: SiteOption,
    out: Annotated[Path, typer.Option(help="folder for the van's files")],
    as_json: JsonOption = False,
) -> None:
    """Make a van's certificate and keys, and make the control room believe it."""
    from provisioning.site import enrol_van

    done = enrol_van(van, site, out)
    content = {"van": done.van, "folder": str(done.folder), "kid": done.key_id, "expires": done.expires.isoformat()}
    lines = [
        f"{out} goes to {van}; its certificate ends on {done.expires:%Y-%m-%d}.",
        "The control room believes it within a minute of having its new vans.jwks.",
    ]
    show(content, lines, as_json=as_json)


@van_app.command()
def bridge(
    folder: Annotated[Path, typer.Argument(help="the van's files, as enrol made them")],
    host: Annotated[str, typer.Option(help="the control room's broker")],
    remote_port: Annotated[int, typer.Option(min=1, max=65535, help="its TCP port")] = 8883,
    port: Annotated[int, typer.Option(min=1, max=65535, help="where the van's own broker listens")] = 8883,
    user: Annotated[str, typer.Option(help="account that mosquitto runs as when started as root")] = "mosquitto",
    as_json: JsonOption = False,
) -> None:
    """Write the configuration of a broker on the van that passes alerts on to the control room's."""
    from provisioning.broker import write_bridge

    conf = write_bridge(folder, host, remote_port, port=port, user=user)
    show({"configuration": str(conf)}, [f"Run: mosquitto -c {conf}"], as_json=as_json)


@van_app.command()
def revoke(
    van: Annotated[str, typer.Argument(help="the van's name")], site: SiteOption, as_json: JsonOption = False
) -> None:
    """Take a van's certificates and signing keys back."""
    from provisioning.site import revoke_van

    count = revoke_van(van, site)
    crl = site / "broker" / "crl.pem"
    line = f"{count} certificate(s) of {van} revoked: give {crl} to the broker and restart it."
    show({"van": van, "certificates": count, "crl": str(crl)}, [line], as_json=as_json)
