"""``release.json``: which image this is, in one file that is signed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edge.vanroot.floor import MAX_EPOCH, version_key
from provisioning.image.board import BOARDS
from provisioning.image.tools import ImageUnusable

__all__ = ["RELEASE_FILE", "SCHEMA", "Release", "read", "write"]

SCHEMA = "lfr-edge-release/1"
RELEASE_FILE = "release.json"


@dataclass(frozen=True, slots=True)
class Release:
    """One image.

    Attributes:
        version: numbers and dots; decides which of two images is older.
        epoch: security epoch, 0–63; raised when an older image must never run again.
        board: profile it was built for.
        compatible: what RAUC compares.
        commit: of the sources; ends in ``-dirty`` when they were not committed.
        root_hash: verity's, of the root image.
        digests: file → SHA-256 of everything that was built.
        models: model file → SHA-256.
        locks: lock file → SHA-256.
        moved: differences from the Debian lock that the builder accepted; empty in a release.
    """

    version: str
    epoch: int
    board: str
    compatible: str
    commit: str
    root_hash: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        try:
            version_key(self.version)
        except ValueError as error:
            raise ImageUnusable("release", str(error), "Give a version such as 1.4.0") from None
        if not 0 <= self.epoch <= MAX_EPOCH:
            raise ImageUnusable("release", f"has security epoch {self.epoch}", f"Give one from 0 to {MAX_EPOCH}")
        if self.board not in BOARDS or self.schema != SCHEMA:
            raise ImageUnusable(
                "release", f"is for board {self.board}, schema {self.schema}", "Use the tools it came with"
            )

    @property
    def text(self) -> str:
        """Canonical JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def write(release: Release, path: Path) -> None:
    """Write a release record."""
    path.write_text(release.text, encoding="utf-8")


def read(path: Path) -> Release:
    """Read a release record.

    Raises:
        ImageUnusable: it is missing or is none.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["moved"] = tuple(raw.get("moved", ()))
        return Release(**raw)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ImageUnusable(
            str(path), f"is not a release record ({error})", "Give the folder that image build made"
        ) from None
