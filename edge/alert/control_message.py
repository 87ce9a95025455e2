"""What a control room says to one van: a compact JWS whose body names the van, believed by its signature.

The broker lets only control rooms write on these topics, but the van does not rest on that: it believes the
control room's key (:class:`edge.trust.keys.KnownSigners`), the type of what is signed, and that it is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from edge.errors import AlertRejected
from edge.parsing import DecodeError, json_as
from edge.trust.keys import KnownSigners, SigningKey

__all__ = ["Directed", "Kind"]


class Directed(Protocol):
    """A body that names the van it is for."""

    @property
    def van(self) -> str: ...


Body = TypeVar("Body", bound=Directed)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Body]):
    """One kind of such message.

    Attributes:
        name: for people.
        jws_type: the ``typ`` that is part of the signature.
        body: what was signed.
        limit: bytes of a message at most.
    """

    name: str
    jws_type: str
    body: type[Body]
    limit: int

    def sign(self, body: Body, key: SigningKey) -> bytes:
        """The message that says ``body``."""
        return key.sign(msgspec.json.encode(body), self.jws_type)

    def read(self, message: bytes, control_rooms: KnownSigners, van: str) -> Body:
        """Read what :meth:`sign` made, as the van ``van``.

        Raises:
            AlertRejected: too large, malformed, or for another van.
            SignatureInvalid: not signed by a control room that this van knows, or signed as something else.
        """
        if len(message) > self.limit:
            raise AlertRejected(
                self.name, f"is too long: {len(message)} bytes, {self.limit} are allowed", "Do not act on it"
            )
        signed = control_rooms.verify(message, self.jws_type)
        whose = f"{self.name} of {signed.signer}"
        try:
            body = json_as(signed.payload, self.body)
        except DecodeError:
            raise AlertRejected(
                whose, "does not have the agreed form", "Update the software of the van or of the control room"
            ) from None
        if body.van != van:
            raise AlertRejected(whose, "is for another van", "Do not act on it")
        return body
