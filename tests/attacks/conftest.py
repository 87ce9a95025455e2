"""What the attacks may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.rooms import Room, running_room, running_site
from tests.broker import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with its broker running, and three officers."""
    with running_site(tmp_path) as made:
        yield made
    assert made.supervisor.failure is None


@pytest.fixture
def room(site: Site) -> Iterator[Room]:
    """Its control room as a process."""
    with running_room(site) as made:
        yield made
