"""An alert as it travels: a CloudEvent around an encrypted, signed body.

From the inside out: the body (:class:`AlertBody`, JSON) is signed by the van (compact JWS, ES256), the
signature is encrypted to every control room that may read it (general JSON JWE, ECDH-ES+A256KW and
A256GCM), and that is the ``data`` of a CloudEvents 1.0 event in structured JSON mode. The envelope tells
a broker or an archive nothing but an identifier, the van and the time; the same three stand in the signed
body, and an envelope that differs from it is refused.

This module is the one source of the format: both sides and the published schemas use these types.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from edge.alert import topics
from edge.alert.retention import DEFAULT_RETENTION
from edge.errors import SOFTWARE_FAULT, AlertRejected, EdgeError, SignatureInvalid
from edge.names import Name
from edge.parsing import DecodeError, json_as
from edge.records import Alert
from edge.trust.keys import DecryptionKeys, KnownSigners, Recipients, SigningKey

__all__ = [
    "ALERT_TYPE",
    "CONTENT_TYPE",
    "JWS_TYPE",
    "LONGEST_DATE",
    "LONGEST_WORDS",
    "MAX_MESSAGE",
    "MAX_PICTURE",
    "MOST_LOOKALIKES",
    "AlertBody",
    "Envelope",
    "open_alert",
    "seal",
    "source_of",
]

ALERT_TYPE = "lfr.alert.v1"
JWS_TYPE = "lfr-alert+json"
CONTENT_TYPE = "application/jose+json"
MEDIA_TYPE = "application/cloudevents+json"
MAX_PICTURE = 256 * 1024
"""Bytes of one picture: a face of 600 px at good quality takes 100 KiB."""
MAX_MESSAGE = 2 * 1024 * 1024
"""Bytes of a whole message; the broker's limit is set to the same."""

LONGEST_WORDS, LONGEST_DATE, MOST_LOOKALIKES = 200, 32, 16
"""Characters, characters and references; what is longer on a list is refused there (edge/watchlist/alertable.py)."""

Words = Annotated[str, Meta(max_length=LONGEST_WORDS)]
Digest = Annotated[str, Meta(max_length=200)]
Score = Annotated[float, Meta(ge=-1.001, le=1.001)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Sequence = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Moment = Annotated[datetime, Meta(tz=True)]
Picture = Annotated[str, Meta(max_length=(MAX_PICTURE + 2) // 3 * 4, pattern=r"^[A-Za-z0-9_-]*$")]


class AlertBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the van signs: :class:`edge.records.Alert` with pictures in base64url without padding."""

    v: Annotated[Literal[1], Meta(description="version of this body")]
    alert_id: Annotated[UUID, Meta(description="UUID version 7, the same through every retry")]
    van: Annotated[Name, Meta(description="the van's identity, as in its certificate")]
    deployment: Annotated[Name, Meta(description="the deployment's identifier")]
    sequence: Annotated[Sequence, Meta(description="counts from 1 per van without gaps")]
    raised_at: Annotated[Moment, Meta(description="when the decision fell")]
    seen_at: Annotated[Moment, Meta(description="when the deciding frame was captured")]
    expires_at: Annotated[Moment, Meta(description="after this moment the alert is stale and must be dropped")]
    reference: Annotated[
        str, Meta(min_length=1, max_length=LONGEST_WORDS, description="the subject's opaque reference")
    ]
    category: Annotated[Words, Meta(description="the subject's category on the list")]
    similarity: Annotated[Score, Meta(description="cosine of probe template and subject")]
    threshold: Annotated[Score, Meta(description="what the score had to reach; without one, the similarity")]
    votes: Annotated[Count, Meta(description="searches in which the subject was first and above the threshold")]
    frames: Annotated[Count, Meta(description="frames in which the person was seen")]
    eye_distance: Annotated[float, Meta(ge=0, le=10_000, description="pixels between the eyes in the probe picture")]
    place: Annotated[Words, Meta(description="where the van stands, in words")]
    watchlist: Annotated[Digest, Meta(description="digest of the list")]
    model: Annotated[Digest, Meta(description="digest of the embedder")]
    image_taken: Annotated[str, Meta(max_length=LONGEST_DATE)] | None
    """ISO 8601 date of the reference picture, or null."""
    erase_at: Annotated[Moment, Meta(description="after this moment nobody may hold the alert")] | None = None
    """By the van's authority; null from a van of before contract 1.1: 24 hours after ``raised_at``."""
    score: (
        Annotated[float, Meta(ge=-2.001, le=1.001, description="how far the similarity stands out from this list")]
        | None
    ) = None
    """The list-relative score; null from a van of before contract 1.2."""
    lookalikes: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=LONGEST_WORDS)], ...],
        Meta(
            max_length=MOST_LOOKALIKES,
            description="references of siblings, doubles and others on the list who look alike",
        ),
    ] = ()
    probe_jpeg: Annotated[Picture, Meta(description="the face as seen, JPEG in base64url")]
    reference_jpeg: Annotated[Picture, Meta(description="the list's picture of the subject, JPEG in base64url")]


class Recipient(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For one control room: the content key, wrapped."""

    header: dict[str, Any]
    encrypted_key: Annotated[str, Meta(max_length=1024)]


class Encrypted(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A JWE in general JSON form (RFC 7516, 7.2.1); unprotected headers and further data are not accepted."""

    protected: Annotated[str, Meta(max_length=1024)]
    recipients: Annotated[list[Recipient], Meta(min_length=1, max_length=16)]
    iv: Annotated[str, Meta(max_length=64)]
    ciphertext: Annotated[str, Meta(max_length=MAX_MESSAGE)]
    tag: Annotated[str, Meta(max_length=64)]


class Envelope(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A CloudEvents 1.0 event in structured JSON mode. Extension attributes are not accepted."""

    specversion: Literal["1.0"]
    id: Annotated[UUID, Meta(description="the alert's identifier")]
    source: Annotated[str, Meta(max_length=100, description="lfr/1/<van>")]
    type: Literal["lfr.alert.v1"]
    time: Annotated[Moment, Meta(description="when the decision fell")]
    datacontenttype: Literal["application/jose+json"]
    data: Encrypted


UNREADABLE: Final = (DecodeError, ValueError)
"""What decoding of the body and of its pictures may raise."""
_UNTOUCHED = (
    "alert_id", "van", "deployment", "sequence", "raised_at", "seen_at", "expires_at", "erase_at", "reference",
    "category", "similarity", "score", "threshold", "votes", "frames", "eye_distance", "place", "watchlist", "model",
    "image_taken", "lookalikes",
)  # fmt: skip


def source_of(van: str) -> str:
    """The CloudEvents ``source`` of a van."""
    return f"{topics.ROOT}/{van}"


def _encode(picture: bytes) -> str:
    return base64.urlsafe_b64encode(picture).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def seal(alert: Alert, signing_key: SigningKey, recipients: Recipients) -> bytes:
    """The message that carries ``alert``: signed, then encrypted, then in its envelope.

    Raises:
        AlertRejected: a picture is larger than :data:`MAX_PICTURE`, or a value breaks the contract; nothing is sent
            that the other side would have to refuse.
    """
    for name in ("probe_jpeg", "reference_jpeg"):
        size = len(getattr(alert, name))
        if size > MAX_PICTURE:
            raise AlertRejected(
                f"{name} of alert {alert.alert_id}",
                f"is too large: {size} bytes, {MAX_PICTURE} are allowed",
                SOFTWARE_FAULT,
            )
    fields: dict[str, Any] = {name: getattr(alert, name) for name in _UNTOUCHED}
    body = msgspec.json.encode(
        {"v": 1, **fields, "probe_jpeg": _encode(alert.probe_jpeg), "reference_jpeg": _encode(alert.reference_jpeg)}
    )
    try:
        json_as(body, AlertBody)
    except DecodeError as error:
        raise AlertRejected(
            f"alert {alert.alert_id}", f"does not have the agreed form ({error})", SOFTWARE_FAULT
        ) from None
    token = signing_key.sign(body, JWS_TYPE)
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": alert.alert_id,
            "source": source_of(alert.van),
            "type": ALERT_TYPE,
            "time": alert.raised_at.astimezone(UTC),
            "datacontenttype": CONTENT_TYPE,
            "data": recipients.encrypt(token, "JOSE"),
        }
    )


def open_alert(message: bytes, decryption_keys: DecryptionKeys, van_keys: KnownSigners) -> Alert:
    """Read what :func:`seal` made.

    Checks run from the outside in, and each layer is believed only after its check:

    1. size, and the envelope's shape;
    2. decryption with one of this control room's keys;
    3. the signature, by a van that is known and not revoked;
    4. the body's shape;
    5. the signer is the van that the body names, and the envelope says the same as the body.

    Expiry and replay depend on time and memory; :mod:`edge.controlroom.receive` checks them.

    Raises:
        AlertRejected: too large, malformed, not for this control room, tampered with, or contradicting itself.
        SignatureInvalid: unknown or revoked signer, wrong signature, or a van that signs for another.
    """
    suspicious = "Do not act on it; check who sent it"
    if len(message) > MAX_MESSAGE:
        raise AlertRejected("message", f"is too long: {len(message)} bytes, {MAX_MESSAGE} are allowed", suspicious)
    try:
        envelope = json_as(message, Envelope)
    except UNREADABLE as error:
        raise AlertRejected("message", f"is not an alert of version 1 ({_short(error)})", suspicious) from None
    token = decryption_keys.decrypt(msgspec.to_builtins(envelope.data), "JOSE")
    signed = van_keys.verify(token, JWS_TYPE)
    try:
        body = json_as(signed.payload, AlertBody)
        pictures: dict[str, Any] = {name: _decode(getattr(body, name)) for name in ("probe_jpeg", "reference_jpeg")}
    except UNREADABLE as error:
        raise AlertRejected(
            f"alert signed by {signed.signer}",
            f"does not have the agreed form ({_short(error)})",
            "Update the software of the van or of the control room",
        ) from None
    if body.van != signed.signer:
        raise SignatureInvalid(f"alert of {body.van}", f"was signed by {signed.signer}, not by that van", suspicious)
    if (envelope.id, envelope.source, envelope.time) != (body.alert_id, source_of(body.van), body.raised_at):
        raise AlertRejected(
            f"alert {body.alert_id}", "was altered: its outside differs from what the van signed", suspicious
        )
    fields: dict[str, Any] = {name: getattr(body, name) for name in _UNTOUCHED}
    fields["erase_at"] = body.erase_at or body.raised_at + DEFAULT_RETENTION
    try:
        return Alert(**fields, **pictures)
    except EdgeError as error:
        raise AlertRejected(f"alert {body.alert_id}", str(error), suspicious) from None


def _short(error: Exception) -> str:
    """What a library says of a message it cannot read; whatever of the message is in it cannot steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(error)[:160])
