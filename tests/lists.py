"""An office that builds lists and a van that imports them, for the tests of lists: real stores, bundles and logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.match.second import joined
from edge.records import WatchlistEntry
from edge.trust.audit import AuditLog, verify
from edge.trust.authority import Authority
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.place import Place
from edge.trust.secret import create_secret
from edge.watchlist.bundle import identity_of
from edge.watchlist.identity import ListMeta
from edge.watchlist.lifecycle import ListLifecycle
from edge.watchlist.store import WatchlistStore
from provisioning.bundle import new_identity, write_bundle
from tests.sim.clock import HandClock

START = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
MODEL = "a" * 64
DIMENSION = 192
CANARY = 0x4C46
"""Seeds the templates and pictures, so that a search for them knows what to look for."""


def entry(reference: str, **changes: Any) -> WatchlistEntry:
    """A person with a random template and a random picture, the same for the same reference."""
    rng = np.random.default_rng([CANARY, *reference.encode()])
    vector = rng.standard_normal((1, DIMENSION)).astype(np.float32)
    values: dict[str, Any] = {
        "reference": reference,
        "category": "wanted on warrant",
        "lawful_basis": "warrant",
        "image_source": "custody",
        "image_taken": "2024-05-06",
        "custody_image": True,
        "review_by": None,
        "delete_by": None,
        "age_band": "25-34",
        "templates": vector / np.linalg.norm(vector),
        "reference_jpeg": rng.bytes(2000),
    }
    return WatchlistEntry(**{**values, **changes})


class Site:
    """One office and one van in a folder."""

    def __init__(self, folder: Path, signing: SigningKey | None = None) -> None:
        self.folder = folder
        self.clock = HandClock(START)
        self.signing = signing or SigningKey.generate()
        self.signers = KnownSigners.of([self.signing.public_jwk(owner="van-1")])
        self.log = folder / "audit.jsonl"
        self.public: dict[str, str] = {}

    def enrol_van(self, van: str = "van-1") -> None:
        self.public[van] = new_identity(self.folder / f"{van}.age.key")

    def identity(self, van: str = "van-1") -> Any:
        return identity_of((self.folder / f"{van}.age.key").read_bytes(), van)

    def build(
        self, entries: list[WatchlistEntry], *, deployment: str = "D-1", name: str = "built", model: str = MODEL
    ) -> tuple[Path, bytes]:
        """A bundle and its manifest."""
        out = self.folder / name
        out.mkdir()
        meta = ListMeta(deployment, model, DIMENSION, START - timedelta(hours=2))
        with WatchlistStore.create(out / "list.db", create_secret(out / "list.key"), meta) as store:
            store.add(entries)
            manifest, content = write_bundle(store, self.public, out, now=START - timedelta(hours=1))
        return out / manifest.bundle, content

    def authority(self, manifest: bytes, **changes: Any) -> Authority:
        """The authority for a manifest."""
        described = msgspec.json.decode(manifest)
        values: dict[str, Any] = {
            "schema": 1,
            "deployment": described["deployment"],
            "purpose": "To find people wanted on warrant",
            "legal_basis": "Common law; the force's policy",
            "authorised_by": "Superintendent",
            "authorised_at": START - timedelta(hours=1),
            "place": Place(name="the square", centre=(51.5, -0.1), radius_m=300.0),
            "starts": START,
            "ends": START + timedelta(hours=6),
            "vans": ("van-1",),
            "watchlist": described["watchlist"],
            "model": described["model"],
            "threshold_floor": 0.45,
            "budget_one_in": 6000,
        }
        return Authority(**{**values, **changes})

    def audit(self) -> AuditLog:
        return AuditLog(self.log, van="van-1", clock=self.clock, signer=self.signing)

    def keeper(self, audit: AuditLog, **changes: Any) -> ListLifecycle:
        return ListLifecycle(self.folder / "lists", clock=self.clock, audit=audit, **changes)


def import_into(keeper: ListLifecycle, site: Site, built: tuple[Path, bytes], **changes: Any) -> None:
    bundle, manifest = built
    arguments: dict[str, Any] = {
        "identity": site.identity(),
        "authority": site.authority(manifest),
        "van": "van-1",
        "model": MODEL,
        **changes,
    }
    keeper.import_bundle(arguments.pop("bundle", bundle), arguments.pop("manifest", manifest), **arguments)


def events(site: Site, kind: Event) -> list[Any]:
    return [found.data for found in verify(site.log, site.signers).entries if found.event == kind]


def damage_unnoticed(keeper: ListLifecycle) -> None:
    """Zeroes something in every page of the open list but the first, and has SQLite read it from the disk again."""
    store = keeper.open()
    with store.path.open("r+b") as file:
        for page in range(4096, store.path.stat().st_size, 4096):
            file.seek(page + 100)
            file.write(bytes(200))
    with store._sealed.reading() as db:
        db.execute("PRAGMA shrink_memory")


def joined_rows(people: int, seed: int) -> np.ndarray:
    """Rows of a list of two embedders, 192 and 128 numbers."""
    random, whole = np.random.default_rng(seed), np.empty((people, 320), np.float32)
    for row in whole:
        first, second = random.standard_normal(192, np.float32), random.standard_normal(128, np.float32)
        row[:] = joined(first / np.linalg.norm(first), second / np.linalg.norm(second))
    return whole
