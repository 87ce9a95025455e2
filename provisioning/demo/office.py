"""The people behind a deployment, in one room: intelligence unit, authorising officer, publisher.

In the field each of them sits somewhere else and holds keys of their own; here they do the same steps with
the same code, one after the other.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from edge.trust.authority import Authority
from edge.trust.keys import SigningKey, write_private, write_public
from edge.trust.revocation import REVOCATION, Revocation
from edge.trust.secret import read_secret
from edge.watchlist.store import WatchlistStore
from provisioning.album import Album
from provisioning.authority import draft_authority, publish_authority
from provisioning.bundle import new_identity, write_bundle
from provisioning.encoder import make_encoder
from provisioning.keyring import Keyring
from provisioning.list_page import page, write_page
from provisioning.notice import write_notice
from provisioning.repository import Repository
from provisioning.sources import Source
from provisioning.watchlist import KEY, STORE, build_store

__all__ = ["PLACE", "Office"]

PLACE = (51.5055, -0.0754)
"""Latitude and longitude of the demo's street."""
HOURS = 2.0
RADIUS_M = 150.0


class Office:
    """Everything that must be signed before a van may match.

    Args:
        folder: the repository, the keys and the list go here.
        deployment: its identifier.
        vans: who may match.
    """

    def __init__(self, folder: Path, deployment: str, *vans: str) -> None:
        self.folder = folder
        self.deployment = deployment
        self.vans = vans
        self._recipients: dict[str, str] = {}
        folder.mkdir(parents=True)
        self.repository = Repository(folder / "repository", Keyring(folder / "keys"))
        self.repository.init(datetime.now(UTC))
        self._unit = SigningKey.generate()
        write_private(folder / "intelligence-unit.jwk", self._unit.private_jwk())

    def enrol_van(self, folder: Path, van: str = "") -> None:
        """Give a van, the first when none is named, what it must know from the start: root of trust, key, revokers."""
        self.encrypt_to(new_identity(folder / "van.age.key"), van)
        (folder / "root.json").write_bytes(self.repository.root())
        write_public(folder / "revokers.jwks", {"keys": [self._unit.public_jwk(owner="intelligence-unit")]})

    def encrypt_to(self, recipient: str, van: str = "") -> None:
        """Encrypt lists to a van's own age key; to the first van's when none is named."""
        self._recipients[van or self.vans[0]] = recipient

    def build_list(self, source: Source, *, second: str = "") -> dict[str, Any]:
        """Enrol, review, encrypt to the van, and put the bundle into the repository; returns the report.

        ``second`` is the embedder that the van asks before an alert, if it asks one.
        """
        out = self.folder / "list"
        album = Album()
        approved = {subject.record.category for subject in source.subjects}
        report = build_store(
            source,
            out,
            self.deployment,
            make_encoder(second=second),
            quiet=True,
            day=datetime.now(UTC).date(),
            approved=tuple(approved),
            album=album,
        )
        write_page(page(report, album), self.folder / "list.html")
        with WatchlistStore.open(out / STORE, read_secret(str(out / KEY))) as store:
            self._manifest, content = write_bundle(store, self._recipients, out)
        now = datetime.now(UTC)
        self.repository.add(f"watchlists/{self.deployment}.json", content, now)
        bundle = (out / self._manifest.bundle).read_bytes()
        self.repository.add(f"watchlists/{self.deployment}.age", bundle, now, custom={"vans": list(self.vans)})
        return report

    def authorise(
        self, *, starts_in_s: float = 2.0, hours: float = HOURS, floor: float = 0.5, one_in: int = 1000
    ) -> Authority:
        """Sign who, why, where, when and how strictly, and write the public notice."""
        now = datetime.now(UTC).replace(microsecond=0)
        draft = self.folder / "authority.toml"
        starts = now + timedelta(seconds=starts_in_s)
        content = {
            "deployment": self.deployment,
            "purpose": "To show how LFR Edge works, on people whose pictures are in the public domain",
            "legal_basis": "None is needed: nobody is looked for",
            "authorised_by": "Authorising officer of the demonstration",
            "starts": starts,
            "ends": starts + timedelta(hours=hours),
            "vans": list(self.vans),
            "threshold_floor": floor,
            "budget_one_in": one_in,
            "retention_h": 24,
            "place": {"name": "a street on this machine", "centre": list(PLACE), "radius_m": RADIUS_M},
            "grounds": {
                "use_case": "To show how LFR Edge works",
                "necessity": "Nobody can see how it works otherwise",
                "why_here": "It is this machine",
                "seriousness": "None: nobody is looked for",
                "rank": "Whoever runs it",
            },
            "notice": {
                "controller": "Whoever runs this demonstration",
                "contact": "You",
                "complaints": "To yourself",
                "deletion": "Delete the demo's folder",
            },
        }
        draft.write_text(tomli_w.dumps(content), encoding="utf-8")
        authority, signed = draft_authority(draft, self._manifest, datetime.now(UTC))
        publish_authority(self.repository, authority, signed, datetime.now(UTC))
        write_notice(authority, self.folder / "notice.html")
        return authority

    def revocation(self, reference: str, cause: str) -> Path:
        """Sign that somebody leaves the list; returns the file for ``lfr-control revoke``."""
        found = Revocation(deployment=self.deployment, reference=reference, cause=cause, issued_at=datetime.now(UTC))
        path = self.folder / "revocations.jws"
        path.write_bytes(self._unit.sign(msgspec.json.encode(found), REVOCATION) + b"\n")
        return path

    def publish(self) -> None:
        """Vouch for everything for 24 hours."""
        self.repository.publish(datetime.now(UTC))
