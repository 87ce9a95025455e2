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
6     a list was built and something that was handed in was left out
7     over: the deployment has ended on this van, and trying again changes nothing
130   stopped with Ctrl-C
====  =========================================================

No error may carry an array, a chip, an embedding or the bytes of a picture.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "SOFTWARE_FAULT",
    "AlertRejected",
    "AuditBroken",
    "AuthorityEnded",
    "AuthorityInvalid",
    "AuthorityMissing",
    "AuthorityNotYet",
    "AuthorityWithdrawn",
    "BadInput",
    "BiometricErased",
    "BrokerUnavailable",
    "BundleRefused",
    "CameraUnavailable",
    "ClockUntrusted",
    "ConfigInvalid",
    "CustodyBreached",
    "DeploymentOver",
    "EdgeError",
    "EntryNotFound",
    "EnvironmentFault",
    "FaceNotEnrollable",
    "ImageUnreadable",
    "KeyUnusable",
    "ListTooOld",
    "MemoryUnprotected",
    "MetadataExpired",
    "MetadataMixed",
    "MetadataRolledBack",
    "ModelNotNamed",
    "ModelRejected",
    "NothingToEnrol",
    "OutboxFull",
    "OutsidePlace",
    "PermitLapsed",
    "PlaceUnknown",
    "PolicyRefusal",
    "RecordInvalid",
    "RepositoryInvalid",
    "RepositoryUnavailable",
    "RulesTooWeak",
    "RuntimeUnavailable",
    "SignatureInvalid",
    "StoreDamaged",
    "StoreUnavailable",
    "TargetMissing",
    "TargetTampered",
    "ThresholdTooLow",
    "ThresholdUnsupported",
    "VanNotNamed",
    "VideoUnreadable",
    "WatchlistGone",
    "WatchlistNotNamed",
    "WatchlistUnreadable",
    "WorkerFailed",
    "for_crew",
]

SOFTWARE_FAULT = "This is a fault in the software: call the engineer"
"""The next step where a part was given what no part should give another. Nobody who reads it can correct that."""


LONGEST_PART = 1000
"""Characters of one of the three parts of an error."""


class EdgeError(Exception):
    """The root: something stopped, and a person is told what, why and what to do.

    Args:
        thing: what it is about, as the reader knows it: a path, a key, a topic, a device.
        cause: why it stopped, in a clause without a full stop.
        next_step: what the reader can do about it, as an imperative.
    """

    exit_code: ClassVar[int] = 5
    crew_can: ClassVar[bool] = False
    """Whether a van's crew can do the next step, without a shell and without the configuration."""

    def __init__(self, thing: str, cause: str, next_step: str) -> None:
        self.thing = _one_line(thing)
        self.cause = _one_line(cause)
        self.next_step = _one_line(next_step)
        super().__init__(f"{self.thing}: {self.cause}. {self.next_step}.")


def _one_line(text: str) -> str:
    """What a stranger's message makes an error say cannot steer a terminal, turn words round or fill a log."""
    return "".join(c if c.isprintable() else " " for c in text[:LONGEST_PART])


def for_crew(error: EdgeError) -> str:
    """The error as the crew's page says it: what only the engineer can do is put as a call to the engineer."""
    step = error.next_step
    if error.crew_can or step.startswith("Ask ") or "the engineer" in step:
        return str(error)
    step = step if step[1:2].isupper() else step[:1].lower() + step[1:]
    return f"{error.thing}: {error.cause}. Call the engineer, who can do this: {step}."


# -- 3: refused by policy ------------------------------------------------------------------------


class PolicyRefusal(EdgeError):
    """The appliance could do it and must not."""

    exit_code = 3
    crew_can = True


class SignatureInvalid(PolicyRefusal):
    """A signature does not verify, or its signer is unknown, revoked or expired."""

    crew_can = False


class ThresholdUnsupported(PolicyRefusal):
    """The model's calibration cannot support the false-alert budget at this list's size."""

    crew_can = False


class AuthorityMissing(PolicyRefusal):
    """Nobody has authorised this deployment, or the authority that did cannot be found."""


class AuthorityInvalid(PolicyRefusal):
    """An authority contradicts itself or lacks what an authority must say."""


class AuthorityNotYet(PolicyRefusal):
    """The authority begins later."""


class AuthorityEnded(PolicyRefusal):
    """The authority is over."""


class AuthorityWithdrawn(AuthorityEnded):
    """Whoever may revoke has said that the deployment must not go on."""


class DeploymentOver(AuthorityEnded):
    """The deployment has ended on this van before: it takes another one to match again.

    It has an exit code of its own, because trying again changes nothing: the service manager leaves it at that.
    """

    exit_code = 7


class VanNotNamed(PolicyRefusal):
    """The authority, or the bundle, is for other vans."""


class OutsidePlace(PolicyRefusal):
    """The van is not where the authority says it may watch."""


class PlaceUnknown(PolicyRefusal):
    """The van does not know where it is, and the authority binds it to a place."""


class PermitLapsed(PolicyRefusal):
    """The leave to match was withdrawn, or nobody has renewed it in time."""


class WatchlistNotNamed(PolicyRefusal):
    """The list is not the one that the authorising officer saw."""


class WatchlistGone(PolicyRefusal):
    """There is no list: none was imported, or it has been destroyed."""


class ModelNotNamed(PolicyRefusal):
    """The embedder is not the one that the authorising officer was told about."""

    crew_can = False


class ThresholdTooLow(PolicyRefusal):
    """The similarity that an alert needs, as it is configured, lies below the authority's floor."""

    crew_can = False


class RulesTooWeak(PolicyRefusal):
    """Votes, window or quality limits let through more than those with which the budget was shown to hold."""


class ClockUntrusted(PolicyRefusal):
    """The clock is behind something that certainly lies in the past: nothing that has a date can be judged."""


class ListTooOld(PolicyRefusal):
    """The list would be older than 24 hours when the deployment starts, or the deployment is not near enough."""


class BundleRefused(PolicyRefusal):
    """A bundle is for others, or is not what its manifest says."""


class RepositoryInvalid(PolicyRefusal):
    """Signed metadata is missing signatures, is malformed or names unknown signers."""


class MetadataRolledBack(PolicyRefusal):
    """The repository offers an older state than this van has seen."""


class MetadataExpired(PolicyRefusal):
    """The repository's metadata is out of date: it may be held back on purpose."""


class MetadataMixed(PolicyRefusal):
    """Pieces of different states of the repository were put together."""


class TargetTampered(PolicyRefusal):
    """A file is not the one that was signed."""


class TargetMissing(PolicyRefusal):
    """The repository names no such file, or names it and does not hold it."""


class AuditBroken(PolicyRefusal):
    """The audit log was altered, cut or reordered after it was written."""

    crew_can = False


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


class EntryNotFound(BadInput):
    """A reference is not on the list."""


class KeyUnusable(BadInput):
    """A key file is missing, unreadable, of the wrong kind, or does not open what it should."""


# -- 5: the environment --------------------------------------------------------------------------


class EnvironmentFault(EdgeError):
    """The machine, its devices or its network do not give what the appliance needs."""

    exit_code = 5


class CameraUnavailable(EnvironmentFault):
    """A camera or stream does not open or stopped delivering frames."""

    crew_can = True


class BrokerUnavailable(EnvironmentFault):
    """The MQTT broker cannot be reached or refuses this client."""


class RuntimeUnavailable(EnvironmentFault):
    """The requested model runtime or accelerator is not installed or does not work here."""


class StoreUnavailable(EnvironmentFault):
    """A file or data base cannot be written: disk full, no permission, read-only."""


class StoreDamaged(EnvironmentFault):
    """A data base is not what was written: a page was altered, or the medium fails."""


class RepositoryUnavailable(EnvironmentFault):
    """The repository's medium or server cannot be reached."""

    crew_can = True


class OutboxFull(EnvironmentFault):
    """The outbox holds as many undelivered alerts as it may: new work stops before one is lost."""

    crew_can = True


class MemoryUnprotected(EnvironmentFault):
    """Memory cannot be locked, or core dumps or swap cannot be excluded."""


class CustodyBreached(EnvironmentFault):
    """Something biometric outlived its deadline: everything was purged and matching stopped."""


class WorkerFailed(EnvironmentFault):
    """A part of a running service died, ended or hangs: everything stops, and the service manager starts it anew."""


class BiometricErased(EdgeError):
    """A biometric was asked for after it had been erased. A bug in the caller, never a fault of input."""

    exit_code = 5
