"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import structlog

from edge.worker import Supervisor

if TYPE_CHECKING:
    from tests.postgres import Postgres


@pytest.fixture(autouse=True)
def _journal_of_its_own() -> Iterator[None]:
    """A test that sets the journal up must not leave it writing into a file that is closed."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def workers() -> Iterator[Supervisor]:
    """A supervisor whose workers must all be well, and end, with the test."""
    supervisor = Supervisor()
    yield supervisor
    for worker in supervisor.workers:
        assert worker.stop(), f"{worker.name} does not end"
    assert supervisor.failure is None, supervisor.failure


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; each test makes a data base of its own in it and leaves the server running."""
    from tests.postgres import Postgres

    server = Postgres()
    yield server
    server.remove()
