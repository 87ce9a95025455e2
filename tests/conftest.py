"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.worker import Supervisor


@pytest.fixture
def workers() -> Iterator[Supervisor]:
    """A supervisor whose workers must all be well, and end, with the test."""
    supervisor = Supervisor()
    yield supervisor
    for worker in supervisor.workers:
        assert worker.stop(), f"{worker.name} does not end"
    assert supervisor.failure is None, supervisor.failure
