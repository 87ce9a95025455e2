"""The control room's TOML file. As on the van: unknown keys are refused by name, paths start at the file's folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edge.errors import ConfigInvalid
from edge.parsing import toml_as

__all__ = ["BrokerSection", "ConsoleSection", "ControlConfig", "KeysSection", "StoreSection", "load", "parse"]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. Unknown keys are refused."""


class BrokerSection(Section, frozen=True):
    """[broker]: where alerts come from."""

    host: Annotated[str, Meta(min_length=1)] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883
    ca: Annotated[str, Meta(description="certificate of the authority that signed the broker's")] = "ca.crt"
    certificate: Annotated[str, Meta(description="the console's client certificate; each watcher has its own")] = (
        "control-room.crt"
    )
    certificate_key: Annotated[str, Meta(description="its private key")] = "control-room.key"
    session_h: Annotated[
        int, Meta(ge=1, le=336, description="hours for which the broker keeps alerts while this end is away")
    ] = 24


class KeysSection(Section, frozen=True):
    """[keys]: what this control room reads, believes and signs with."""

    decryption: Annotated[str, Meta(description="private JWK Set that alerts are encrypted to")] = (
        "control-decryption.jwks"
    )
    vans: Annotated[str, Meta(description="public JWK Set of the vans that are believed")] = "vans.jwks"
    signing: Annotated[str, Meta(description="private JWK with which decisions are signed")] = "control-signing.jwk"


class StoreSection(Section, frozen=True):
    """[store]: what the control room keeps of alerts."""

    directory: Annotated[str, Meta(description="folder of the sealed stores")] = "control-state"
    key: Annotated[str, Meta(min_length=1, description="file with their key, or credential:NAME")] = "control-store.key"
    url: Annotated[
        str, Meta(description="postgresql://USER@HOST/NAME of the store that several rooms share; empty for a file")
    ] = ""
    room: Annotated[
        str,
        Meta(pattern=r"^([a-z0-9][a-z0-9-]{0,31})?$", description="this room's name; no other that shares has it"),
    ] = ""
    ca: Annotated[str, Meta(description="certificate of the authority that signed the shared store's server's")] = ""
    certificate: Annotated[str, Meta(description="this room's client certificate for the shared store")] = ""
    certificate_key: Annotated[str, Meta(description="its private key")] = ""
    retention_h: Annotated[
        int, Meta(ge=1, le=744, description="hours until an alert and its pictures are erased (31 days at most)")
    ] = 24


class ConsoleSection(Section, frozen=True):
    """[console]: the page on which people decide."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8443
    certificate: Annotated[str, Meta(description="its certificate; needed when it listens beyond this machine")] = ""
    certificate_key: Annotated[str, Meta(description="its private key")] = ""
    names: Annotated[
        tuple[str, ...], Meta(description="names under which browsers ask for it, besides those in its certificate")
    ] = ()
    look_s: Annotated[float, Meta(ge=1, le=60, description="least time both pictures are looked at")] = 5.0
    escalate_s: Annotated[float, Meta(ge=1, le=3600, description="an alert unseen for so long escalates")] = 60.0
    idle_min: Annotated[
        int, Meta(ge=1, le=720, description="minutes without a click after which one is signed out")
    ] = 30


class ControlConfig(Section, frozen=True):
    """The whole file."""

    broker: BrokerSection = BrokerSection()
    keys: KeysSection = KeysSection()
    store: StoreSection = StoreSection()
    console: ConsoleSection = ConsoleSection()
    base: str = ""
    """Folder that relative paths start from: the file's own. Set by :func:`load`."""

    def path(self, value: str) -> Path:
        """A path of the file, made absolute."""
        return Path(self.base, value) if self.base else Path(value)


_FIELD = re.compile(r"field `(?P<key>[^`]*)`")
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")


def parse(text: str, *, name: str = "configuration", base: str = "") -> ControlConfig:
    """Read a configuration from TOML text.

    Raises:
        ConfigInvalid: no TOML, or a key that is unknown or out of range; names the key.
    """
    try:
        raw = toml_as(text, dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigInvalid(name, f"is not valid TOML ({error})", "Correct the line that is named") from error
    raw.pop("base", None)
    try:
        return msgspec.convert({**raw, "base": base}, ControlConfig)
    except msgspec.ValidationError as error:
        where = _AT.search(str(error))
        cause = _AT.sub("", str(error))
        field = _FIELD.search(cause)
        key = ".".join(filter(None, (where["path"] if where else "", field["key"] if field else "")))
        cause = "is unknown" if field else cause[:1].lower() + cause[1:]
        raise ConfigInvalid(
            f"{name}: key {key}", cause, "Correct it; docs/control-room.md describes every key"
        ) from error


def load(path: Path) -> ControlConfig:
    """Read and check the configuration file at ``path``.

    Raises:
        ConfigInvalid: see :func:`parse`; also when the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "no text"
        raise ConfigInvalid(
            str(path), f"cannot be read ({cause})", "Give the control.toml of the site's control-room folder"
        ) from error
    return parse(text, name=str(path), base=str(path.resolve().parent))
