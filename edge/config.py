"""One TOML file says what a van is and does. Unknown keys are refused by name; every default is safe.

``lfr-edge check-config FILE`` runs exactly what the service runs at start. Paths in the file are
relative to the file's folder.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edge.errors import ConfigInvalid
from edge.names import Name
from edge.parsing import toml_as

__all__ = [
    "AlertSection",
    "CameraSection",
    "ClockSection",
    "Config",
    "DecisionSection",
    "DeploymentSection",
    "DetectorSection",
    "MemorySection",
    "ModelsSection",
    "PageSection",
    "PositionSection",
    "QualitySection",
    "RepositorySection",
    "StoreSection",
    "TrackSection",
    "VanSection",
    "WatchlistSection",
    "hide_password",
    "load",
    "parse",
]

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. Unknown keys are refused."""


class VanSection(Section, frozen=True):
    """[van]: who this is."""

    id: Annotated[Name, Meta(description="the van's identity; must equal the common name of its certificate")]


class DeploymentSection(Section, frozen=True):
    """[deployment]: what the van is out for."""

    id: Annotated[Name, Meta(description="the deployment's identifier")]
    place: Annotated[str, Meta(max_length=200, description="where the van stands, in words")] = ""


class CameraSection(Section, frozen=True):
    """[camera]: where frames come from."""

    source: Annotated[
        str,
        Meta(min_length=1, description="a video file, a folder of pictures, /dev/video0, or rtsp://…"),
    ]
    pace: Annotated[
        Literal["live", "every-frame"],
        Meta(description="live: the newest frame wins, others are dropped; every-frame: none is, for tests"),
    ] = "live"
    max_fps: Annotated[
        float, Meta(gt=0, le=120, description="frames per second at most; asked of a /dev/video camera")
    ] = 25.0
    width: Annotated[
        int, Meta(ge=160, le=7680, description="pixels asked of a /dev/video camera; it may give less")
    ] = 1920
    height: Annotated[
        int, Meta(ge=120, le=4320, description="pixels asked of a /dev/video camera; it may give less")
    ] = 1080
    pixel_format: Annotated[
        Literal["auto", "MJPG", "YUYV", "UYVY", "NV12", "GREY"],
        Meta(description="asked of a /dev/video camera; auto: MJPG, which lets a large picture through in time"),
    ] = "auto"
    turn: Annotated[
        Literal["auto", "0", "90", "180", "270"],
        Meta(description="degrees to the right to turn each picture; auto: a film until its faces stand upright"),
    ] = "auto"
    reconnect_s: Annotated[float, Meta(gt=0, le=300, description="longest wait between attempts to reconnect")] = 10.0
    stall_s: Annotated[float, Meta(gt=0, le=60, description="a live source without a frame for so long is lost")] = 4.0


class ModelsSection(Section, frozen=True):
    """[models]: which packs the van runs."""

    directory: Annotated[str, Meta(description="folder of model packs; empty: the packs that ship with LFR Edge")] = ""
    detector: Annotated[str, Meta(description="pack:variant of the detector")] = "centerface:960x544-int8"
    close_up: Annotated[
        str, Meta(description="pack:variant of the detector that looks at small faces again; empty: nobody does")
    ] = "centerface:96x96-int8"
    embedder: Annotated[str, Meta(description="pack:variant of the embedder")] = "mobilefacenet:dynamic-int8"
    second: Annotated[
        str, Meta(description="pack:variant of a second embedder, asked before an alert; empty: none is")
    ] = ""
    runtime: Annotated[Literal["litert", "tflite-runtime"], Meta(description="which runtime executes them")] = "litert"
    threads: Annotated[int, Meta(ge=1, le=64, description="threads per model")] = 2


class DetectorSection(Section, frozen=True):
    """[detector]: what counts as a face."""

    score: Annotated[Share, Meta(description="lowest score that the tracker sees at all")] = 0.2
    iou: Annotated[Share, Meta(description="overlap above which two boxes are one face")] = 0.3


class TrackSection(Section, frozen=True):
    """[track]: what counts as one passage."""

    high_score: Annotated[Share, Meta(description="score above which a detection may begin a track")] = 0.45
    patience_ms: Annotated[
        int, Meta(ge=50, le=1000, description="how long a person may be unseen before the passage has ended")
    ] = 600
    confirm_frames: Annotated[int, Meta(ge=1, le=30, description="frames before a track is believed")] = 2


class QualitySection(Section, frozen=True):
    """[quality]: which faces are good enough to be searched."""

    min_eye_distance: Annotated[float, Meta(ge=4, le=500, description="pixels between the eyes")] = 14.0
    max_yaw: Annotated[float, Meta(gt=0, le=90, description="degrees to the side")] = 50.0
    max_pitch: Annotated[float, Meta(gt=0, le=90, description="degrees up or down")] = 40.0
    min_sharpness: Annotated[float, Meta(ge=0, description="variance of the Laplacian at chip size")] = 20.0
    min_brightness: Annotated[float, Meta(ge=0, le=255, description="mean grey level")] = 25.0
    max_brightness: Annotated[float, Meta(ge=0, le=255, description="mean grey level")] = 235.0
    min_score: Annotated[Share, Meta(description="the detector's score")] = 0.45


class DecisionSection(Section, frozen=True):
    """[decision]: when a resemblance becomes an alert."""

    threshold: Annotated[
        Annotated[float, Meta(ge=0.05, le=1.0)] | None,
        Meta(
            description="score that a track's template must reach: how far its likeness to one entry stands out from "
            "this list; when not set, what the authority's false-alert budget requires at this list's size"
        ),
    ] = None
    min_similarity: Annotated[
        Annotated[float, Meta(ge=0.2, le=1.0)] | None,
        Meta(
            description="cosine similarity that it must reach besides; when not set, the higher of the authority's "
            "floor and what strangers in one scene may reach, below which it may not lie"
        ),
    ] = None
    votes: Annotated[int, Meta(ge=1, le=30, description="searches that must agree (k of n)")] = 2
    window: Annotated[int, Meta(ge=1, le=60, description="searches that are counted (n)")] = 5
    cooldown_s: Annotated[
        float, Meta(ge=0, le=3600, description="after an alert, how long the same subject raises none")
    ] = 30.0


class WatchlistSection(Section, frozen=True):
    """[watchlist]: the list of this deployment."""

    folder: Annotated[str, Meta(min_length=1, description="folder that holds lists and nothing else")] = "lists"
    identity: Annotated[str, Meta(description="the van's age key, to which lists are encrypted")] = "van.age.key"
    revokers: Annotated[str, Meta(description="JWK Set of those who may revoke an entry")] = "revokers.jwks"
    device_secret: Annotated[
        str, Meta(description="file or credential:NAME that is mixed into every list's key; best bound to a TPM")
    ] = ""
    index: Annotated[
        Literal["auto", "exact", "hnsw"],
        Meta(description="auto: exact up to exact_up_to templates, HNSW with exact confirmation beyond"),
    ] = "auto"
    exact_up_to: Annotated[int, Meta(ge=0, le=1_000_000, description="templates searched exactly")] = 20_000


class RepositorySection(Section, frozen=True):
    """[repository]: where authority and list come from."""

    source: Annotated[str, Meta(description="a stick's folder, or https://…")] = ""
    root: Annotated[str, Meta(description="the root of trust that the van was enrolled with")] = "root.json"
    ca: Annotated[str, Meta(description="certificate of the server's authority; empty: the system's")] = ""
    wipe: Annotated[bool, Meta(description="overwrite the list on the stick after the import")] = False


class PositionSection(Section, frozen=True):
    """[position]: how the van knows where it is."""

    fixed: Annotated[
        tuple[float, float] | None, Meta(description="latitude and longitude in degrees, for a site that does not move")
    ] = None
    gpsd: Annotated[
        str, Meta(pattern=r"^([A-Za-z0-9.-]+:[0-9]{1,5})?$", description="host:port of gpsd, for a van")
    ] = ""


class ClockSection(Section, frozen=True):
    """[clock]: when the machine's time is believed."""

    require_confirmed: Annotated[
        bool, Meta(description="wait until a battery-backed clock, a time server or the satellites vouch for the time")
    ] = True


class StoreSection(Section, frozen=True):
    """[store]: what the van keeps until it is delivered or due for deletion."""

    directory: Annotated[str, Meta(description="folder for the outbox and the audit log")] = "state"
    runtime: Annotated[
        str,
        Meta(
            description="folder in memory for what the service says of itself; empty: /run/lfr-edge where there is "
            "one, else one of its own below /dev/shm"
        ),
    ] = ""
    key: Annotated[str, Meta(min_length=1, description="file with the outbox's key, or credential:NAME")] = "outbox.key"
    outbox_limit: Annotated[int, Meta(ge=1, le=1_000_000, description="undelivered alerts at most")] = 10_000


class AlertSection(Section, frozen=True):
    """[alert]: the connection to the control room."""

    host: Annotated[str, Meta(min_length=1)] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883
    ca: Annotated[str, Meta(description="certificate of the authority that signed the broker's")] = "ca.crt"
    certificate: Annotated[str, Meta(description="this van's client certificate")] = "van.crt"
    certificate_key: Annotated[str, Meta(description="its private key")] = "van.key"
    signing_key: Annotated[str, Meta(description="JWK with which alerts are signed")] = "van-signing.jwk"
    recipients: Annotated[str, Meta(description="JWK Set of the control rooms that may read alerts")] = (
        "control-room.jwks"
    )
    control_rooms: Annotated[
        str, Meta(description="JWK Set of those whose decisions on alerts and receipts for them are believed")
    ] = "control-signing.jwks"
    confirmed_by: Annotated[
        Literal["control-room", "broker"],
        Meta(description="whose word lets an alert go; broker only for a control room that gives no receipts"),
    ] = "control-room"
    discovery: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$",
            description="describe state and counters for Home Assistant under this prefix; empty: not at all",
        ),
    ] = ""
    expiry_s: Annotated[int, Meta(ge=10, le=86_400, description="after this an undelivered alert is stale")] = 14_400
    probe_margin: Annotated[float, Meta(ge=0.0, le=1.0, description="how far round the face the probe reaches")] = 0.35


class PageSection(Section, frozen=True):
    """[page]: the crew's page."""

    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port on this machine, for the screen in the van")] = 8080
    host: Annotated[str, Meta(description="address for tablets and phones, over TLS; empty: for none")] = ""
    tls_port: Annotated[int, Meta(ge=1, le=65535, description="TCP port for them")] = 8443
    certificate: Annotated[str, Meta(description="the page's certificate")] = "page.crt"
    certificate_key: Annotated[str, Meta(description="its private key, a file or credential:NAME")] = "page.key"
    tablets: Annotated[str, Meta(description="certificate of the authority that signs those of tablets")] = "ca.crt"
    names: Annotated[tuple[str, ...], Meta(description="further names under which it may be asked for")] = ()
    crew: Annotated[str, Meta(description="who may sign in, and on which tablets")] = "crew.json"
    idle_min: Annotated[int, Meta(ge=1, le=720, description="minutes without a touch until a session ends")] = 30
    account: Annotated[str, Meta(description="user that the page runs as; empty: the service's own")] = ""


class MemorySection(Section, frozen=True):
    """[memory]: what the operating system must grant before anything biometric is held."""

    lock: Annotated[bool, Meta(description="lock all memory, so that nothing reaches swap")] = True
    refuse_swap: Annotated[bool, Meta(description="do not start while swap is on and memory cannot be locked")] = True


class Config(Section, frozen=True):
    """The whole file."""

    van: VanSection
    deployment: DeploymentSection
    camera: CameraSection
    models: ModelsSection = ModelsSection()
    detector: DetectorSection = DetectorSection()
    track: TrackSection = TrackSection()
    quality: QualitySection = QualitySection()
    decision: DecisionSection = DecisionSection()
    watchlist: WatchlistSection = WatchlistSection()
    repository: RepositorySection = RepositorySection()
    position: PositionSection = PositionSection()
    clock: ClockSection = ClockSection()
    store: StoreSection = StoreSection()
    alert: AlertSection = AlertSection()
    memory: MemorySection = MemorySection()
    page: PageSection = PageSection()
    base: str = ""
    """Folder that relative paths start from: the file's own. Set by :func:`load`."""

    def path(self, value: str) -> Path:
        """A path of the file, made absolute."""
        return Path(self.base, value) if self.base else Path(value)

    def source(self) -> str:
        """``camera.source``, made absolute where it is a path and not a device or an address."""
        source = self.camera.source
        if "://" in source or source.startswith("/dev/") or source.isdigit():
            return source
        return str(self.path(source))

    def camera_name(self) -> str:
        """``camera.source`` as people, logs and pages may see it: without the password that an address may hold."""
        return hide_password(self.source())


def hide_password(address: str) -> str:
    """An address without what stands before its host and behind its path, where cameras put names and passwords.

    ``rtsp://user:password@10.0.0.5/stream?token=1`` becomes ``rtsp://10.0.0.5/stream``. Other text stays as it is.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    if "@" in path and "@" not in host:  # a password with a slash in it: nothing before the last @ is shown
        host, slash, path = rest.rpartition("@")[2].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<key>[^`]*)`")
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")


def _known_keys(table: str) -> list[str]:
    section: Any = Config
    for part in filter(None, table.split(".")):
        section = msgspec.inspect.type_info(section)
        section = next(f.type.cls for f in section.fields if f.encode_name == part)
    return [f.encode_name for f in msgspec.inspect.type_info(section).fields if f.encode_name != "base"]  # type: ignore[attr-defined]


def _explain(name: str, error: Exception) -> ConfigInvalid:
    """Turn msgspec's message into one that names the key as it stands in the file."""
    text = str(error)
    where = _AT.search(text)
    table = where["path"] if where else ""
    cause = _AT.sub("", text)
    if unknown := _UNKNOWN.search(text):
        key = f"{table}.{unknown['key']}".lstrip(".")
        known = _known_keys(table)
        close = difflib.get_close_matches(unknown["key"], known, n=1)
        hint = f"Did you mean {close[0]}" if close else f"Remove it; known keys here are {', '.join(known)}"
        return ConfigInvalid(f"{name}: key {key}", "is unknown", hint)
    if missing := _MISSING.search(text):
        key = f"{table}.{missing['key']}".lstrip(".")
        return ConfigInvalid(f"{name}: key {key}", "is missing", "Add it; docs/config.md describes every key")
    cause = cause[:1].lower() + cause[1:]
    return ConfigInvalid(
        f"{name}: key {table or '(top)'}", cause, "Correct the value; docs/config.md describes every key"
    )


def parse(text: str, *, name: str = "configuration", base: str = "") -> Config:
    """Read a configuration from TOML text.

    Raises:
        ConfigInvalid: no TOML, or a key that is unknown, missing or out of range; names the key.
    """
    try:
        raw = toml_as(text, dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigInvalid(name, f"is not valid TOML ({error})", "Correct the line that is named") from error
    if "base" in raw:
        raise ConfigInvalid(f"{name}: key base", "is unknown", "Remove it; paths start from the file's folder")
    try:
        config = msgspec.convert({**raw, "base": base}, Config)
    except msgspec.ValidationError as error:
        raise _explain(name, error) from error
    if config.decision.votes > config.decision.window:
        raise ConfigInvalid(
            f"{name}: key decision.votes",
            f"is {config.decision.votes}, more than decision.window = {config.decision.window}",
            "Lower decision.votes or raise decision.window",
        )
    return config


def load(path: Path) -> Config:
    """Read and check the configuration file at ``path``.

    Raises:
        ConfigInvalid: see :func:`parse`; also when the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigInvalid(str(path), f"cannot be read ({cause})", "Give the path of a TOML file") from error
    return parse(text, name=str(path), base=str(path.resolve().parent))
