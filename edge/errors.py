"""Every way in which LFR Edge can refuse or fail, one class per cause that a person can act on.

Each error names the thing, the cause and the next step, in that order, because the reader stands in
a street or a control room and not in front of this source. The exit codes are a stable contract:

====  =========================================================
code  meaning
====  =========================================================
0     done
2     the command line was wrong (Typer answers these itself)
3     refused by policy: authority, signature, expiry, threshold
4     bad input: a file, a picture, a message, a configuration
5     the environment: camera, broker, disk, memory, runtime
====  =========================================================

No error may carry an array, a chip, an embedding or the bytes of a picture.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlertRejected",
    "BadInput",
    "BiometricErased",
    "BrokerUnavailable",
    "CameraUnavailable",
    "ConfigInvalid",
    "CustodyBreached",
    "EdgeError",
    "EnvironmentFault",
    "FaceNotEnrollable",
    "ImageUnreadable",
    "KeyUnusable",
    "MemoryUnprotected",
    "ModelRejected",
    "NothingToEnrol",
    "OutboxFull",
    "PolicyRefusal",
    "RecordInvalid",
    "RuntimeUnavailable",
    "SignatureInvalid",
    "StoreUnavailable",
    "ThresholdUnsupported",
    "VideoUnreadable",
    "WatchlistUnreadable",
]


class EdgeError(Exception):
    """The root: something stopped, and a person is told what, why and what to do.

    Args:
        thing: what it is about, as the reader knows it: a path, a key, a topic, a device.
        cause: why it stopped, in a clause without a full stop.
        next_step: what the reader can do about it, as an imperative.
    """

    exit_code: ClassVar[int] = 5

    def __init__(self, thing: str, cause: str, next_step: str) -> None:
        self.thing = thing
        self.cause = cause
        self.next_step = next_step
        super().__init__(f"{thing}: {cause}. {next_step}.")


# -- 3: refused by policy ------------------------------------------------------------------------


class PolicyRefusal(EdgeError):
    """The appliance could do it and must not."""

    exit_code = 3


class SignatureInvalid(PolicyRefusal):
    """A signature does not verify, or its signer is unknown, revoked or expired."""


class ThresholdUnsupported(PolicyRefusal):
    """The model's calibration cannot support the false-alert budget at this list's size."""


# -- 4: bad input --------------------------------------------------------------------------------


class BadInput(EdgeError):
    """What was handed in cannot be used as it is."""

    exit_code = 4


class ConfigInvalid(BadInput):
    """A configuration file cannot be read, or one of its keys is unknown, missing or out of range."""


class RecordInvalid(BadInput):
    """A record was made with a wrong shape, type, unit or range."""


class ImageUnreadable(BadInput):
    """A picture is missing, is no picture, or is cut off."""


class VideoUnreadable(BadInput):
    """A video is missing, is no video, or has no frame in it."""


class FaceNotEnrollable(BadInput):
    """A picture holds no face, several, or one that is too small, turned or blurred to enrol."""


class NothingToEnrol(BadInput):
    """A watchlist source holds no picture that could be enrolled."""


class ModelRejected(BadInput):
    """A model pack's card or file is not what it claims to be."""


class AlertRejected(BadInput):
    """A message is malformed, oversize, expired, replayed or not for this control room."""


class WatchlistUnreadable(BadInput):
    """A watchlist store is not one, is damaged, or is of another version."""


class KeyUnusable(BadInput):
    """A key file is missing, unreadable, of the wrong kind, or does not open what it should."""


# -- 5: the environment --------------------------------------------------------------------------


class EnvironmentFault(EdgeError):
    """The machine, its devices or its network do not give what the appliance needs."""

    exit_code = 5


class CameraUnavailable(EnvironmentFault):
    """A camera or stream does not open or stopped delivering frames."""


class BrokerUnavailable(EnvironmentFault):
    """The MQTT broker cannot be reached or refuses this client."""


class RuntimeUnavailable(EnvironmentFault):
    """The requested model runtime or accelerator is not installed or does not work here."""


class StoreUnavailable(EnvironmentFault):
    """A file or data base cannot be written: disk full, no permission, read-only."""


class OutboxFull(EnvironmentFault):
    """The outbox holds as many undelivered alerts as it may: new work stops before one is lost."""


class MemoryUnprotected(EnvironmentFault):
    """Memory cannot be locked, or core dumps or swap cannot be excluded."""


class CustodyBreached(EnvironmentFault):
    """Something biometric outlived its deadline: everything was purged and matching stopped."""


class BiometricErased(EdgeError):
    """A biometric was asked for after it had been erased. A bug in the caller, never a fault of input."""

    exit_code = 5
