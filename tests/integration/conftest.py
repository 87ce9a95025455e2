from __future__ import annotations

import pytest

from tests.broker import make_site


@pytest.fixture
def site(tmp_path):
    """A site with its broker running."""
    made = make_site(tmp_path / "site")
    made.start_broker()
    yield made
    made.stop_broker()
