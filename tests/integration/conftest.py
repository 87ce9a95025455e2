from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Site, make_site
from tests.van_process import office, van

__all__ = ["office", "site", "van"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with its broker running."""
    made = make_site(tmp_path / "site")
    made.start_broker()
    yield made
    made.stop_broker()
