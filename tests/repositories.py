"""A publisher, the medium that it is copied to, a van, and somebody who publishes what they must not."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.trust.repository import VanRepository
from provisioning.keyring import Keyring
from provisioning.repository import Repository

LIST = "watchlists/D-1.age"


def now() -> datetime:
    return datetime.now(UTC)


class Forger(Repository):
    """Whoever holds the keys that publish, and publishes what too few people have signed, or others than may."""

    def _vouched(self, role: str) -> Path:
        return self._path(role)

    def _believed(self, role: str, kind: type[Any], *, need: int = 1) -> Any:
        return self._load(role, kind)


class World:
    """A publisher, the medium it is copied to, and a van."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stick = folder / "stick"
        self.repository = Repository(folder / "repository", Keyring(folder / "keys"))

    def begin(self) -> None:
        self.repository.init(now())
        self.repository.add(LIST, b"first list", now(), custom={"vans": ["van-1"]})
        self.repository.publish(now())

    def copy(self) -> None:
        shutil.rmtree(self.stick, ignore_errors=True)
        shutil.copytree(self.repository.folder, self.stick)

    @property
    def root(self) -> bytes:
        return self.repository.root()

    def van(self) -> VanRepository:
        return VanRepository(self.folder / "van", str(self.stick), self.root)

    def newer(self, content: bytes = b"second list") -> None:
        self.repository.add(LIST, content, now())
        self.repository.publish(now())
