"""A client in another language reads what the van sends: npm's jose and mqtt, nothing of this project."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import datetime

import pytest

from edge.alert.outbox import Outbox
from edge.alert.submit import AlertSubmitter
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from tests.broker import Site, make_alert
from tests.node import FOLDER, node_modules

pytestmark = pytest.mark.broker


def test_a_node_client_decrypts_verifies_prints_and_confirms_an_alert(site: Site) -> None:
    node_modules()
    node = shutil.which("node")
    assert node
    folder = site.van("van-1")
    foreign = subprocess.Popen(
        [node, "receive.mjs", site.room, str(site.port), "1"], cwd=FOLDER, stdout=subprocess.PIPE, text=True
    )
    assert foreign.stdout is not None
    assert json.loads(foreign.stdout.readline())["event"] == "listening"
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox)
        publisher.start(site.supervisor)
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        sent = desk.submit(make_alert)
        output, _ = foreign.communicate(timeout=60)
        assert publisher.wait_empty(10), "the van believes the foreign receipt"
        publisher.stop()
    assert foreign.returncode == 0
    alert = json.loads(output)
    assert alert["alert_id"] == str(sent.alert_id)
    assert (alert["similarity"], alert["score"]) == (sent.similarity, sent.score)
    assert datetime.fromisoformat(alert["raised_at"]) == sent.raised_at
    assert (alert["probe_jpeg"], alert["reference_jpeg"]) == (len(sent.probe_jpeg), len(sent.reference_jpeg))
