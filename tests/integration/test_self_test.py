"""The van's self-test beside the service that runs."""

from __future__ import annotations

import json

import pytest

from tests.broker import Site
from tests.van_process import Van, office, started, van  # noqa: F401 - fixtures

pytestmark = pytest.mark.broker


def test_a_self_test_does_not_take_the_running_services_connection(van: Van, site: Site) -> None:
    van.watches("biden.jpg", frames=2000).fetches()
    process = started(van)
    try:
        done = van.run("self-test", "--json")
        broker = next(check for check in json.loads(done.stdout) if check["name"] == "broker")
        assert not broker["good"]
        assert "the service is running" in broker["detail"]
        assert "already connected" not in site.log.read_text()
    finally:
        process.terminate()
        process.communicate(timeout=60)
    done = van.run("self-test", "--json")
    broker = next(check for check in json.loads(done.stdout) if check["name"] == "broker")
    assert broker["good"], broker
