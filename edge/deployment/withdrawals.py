"""Withdrawals of authorities, as the van has heard them: kept over restarts, each with its signature.

A withdrawal ends every authority of the deployment that was signed before it (:mod:`edge.trust.revocation`). Both
moments were set at the office, so the van's clock has no say in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import UTC
from pathlib import Path

from edge.errors import AuthorityWithdrawn, SignatureInvalid, StoreUnavailable
from edge.files import replace_file
from edge.trust.authority import Authority
from edge.trust.keys import KnownSigners
from edge.trust.revocation import EVERYBODY, Revocation, parse_revocation

__all__ = ["Withdrawals"]

FILE = "withdrawn.jws"


class Withdrawals:
    """See the module.

    Args:
        folder: where they are kept.
        revokers: whose word counts; what is in the file is believed no sooner than what has just arrived.
        deployment: for which they are looked at.
    """

    def __init__(self, folder: Path, revokers: KnownSigners, deployment: str) -> None:
        self._path = folder / FILE
        self._revokers = revokers
        self._deployment = deployment
        self._known: dict[bytes, Revocation] = {}
        with contextlib.suppress(FileNotFoundError):
            self._known = self._among(self._path.read_bytes().splitlines())

    def take(self, tokens: Iterable[bytes]) -> None:
        """Take in the withdrawals among ``tokens``; everything else is passed over without a word.

        Raises:
            StoreUnavailable: they hold, but could not be written down: after a restart they are to be said again.
        """
        fresh = {token: found for token, found in self._among(tokens).items() if token not in self._known}
        if not fresh:
            return
        self._known |= fresh
        try:
            replace_file(self._path, b"".join(token + b"\n" for token in self._known))
        except OSError as error:
            raise StoreUnavailable(
                str(self._path), f"cannot be written ({error.strerror})", "Check that the disk is not full or failing"
            ) from None

    def end(self, authority: Authority) -> Revocation | None:
        """The latest withdrawal that ends an authority; None while it holds."""
        said = [found for found in self._known.values() if found.issued_at >= authority.authorised_at]
        return max(said, key=lambda found: found.issued_at, default=None)

    @property
    def last(self) -> str:
        """What the latest withdrawal of the deployment says, as a clause; empty when there is none."""
        found = max(self._known.values(), key=lambda each: each.issued_at, default=None)
        return "" if found is None else _said(found)

    def judge(self, authority: Authority) -> None:
        """Return while an authority holds.

        Raises:
            AuthorityWithdrawn: it was withdrawn; with when and why.
        """
        found = self.end(authority)
        if found is not None:
            raise AuthorityWithdrawn(
                f"authority {authority.deployment}",
                _said(found),
                "Drive back; the list is being destroyed",
            )

    def _among(self, tokens: Iterable[bytes]) -> dict[bytes, Revocation]:
        among: dict[bytes, Revocation] = {}
        for token in tokens:
            with contextlib.suppress(SignatureInvalid):
                found = parse_revocation(token, self._revokers, deployment=self._deployment)
                if found is not None and found.reference == EVERYBODY:
                    among[token.strip()] = found
        return among


def _said(found: Revocation) -> str:
    return f"was withdrawn at {found.issued_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {found.cause}"
