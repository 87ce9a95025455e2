"""The van as a process, on a disk that has damaged both of its stores."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge.alert.outbox import Outbox
from edge.controlroom.receive import Arrived
from edge.trust.secret import read_secret
from tests.broker import JPEG, Heard, Site, make_alert
from tests.van_process import Van, office, van  # noqa: F401 - fixtures

pytestmark = [pytest.mark.broker, pytest.mark.slow]
PAGE = 4096


def zero(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE + 100)
        file.write(bytes(200))


def test_a_van_whose_stores_are_damaged_sends_what_can_be_read_fetches_its_list_anew_and_says_so(
    site: Site, van: Van
) -> None:
    assert van.run("fetch").returncode == 0
    outbox = van.folder / "state" / "outbox.db"
    picture = JPEG + os.urandom(30_000)
    with Outbox(outbox, read_secret("outbox.key", van.folder), "van-1") as box:
        left = [box.append(lambda n: make_alert(n, probe_jpeg=picture), site.sealed) for _ in range(3)]
    zero(outbox, outbox.stat().st_size // PAGE // 2)
    (former,) = (path for path in van.list_files if path.name == "watchlist.db")
    zero(former, former.stat().st_size // PAGE - 1)

    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    heard.online()
    van.watches("obama2.jpg")
    ended = van.run("run", "--json")
    assert ended.returncode == 0, ended.stderr
    arrived = [heard.next(Arrived).alert for _ in range(3)]
    receiver.stop()
    assert [alert.alert_id for alert in arrived[:2]] == [alert.alert_id for alert in (left[0], left[2])]
    assert (arrived[2].reference, arrived[2].sequence) == ("SUBJECT-001", 4)
    assert json.loads(ended.stdout)["undelivered"] == 0

    entries = [json.loads(line) for line in (van.folder / "state" / "audit.jsonl").read_text().splitlines()]
    (damaged,) = [entry["data"] for entry in entries if entry["event"] == "store.damaged"]
    assert (damaged["store"], damaged["carried"], damaged["lost"]) == ("outbox", 2, "1 alert")
    assert (outbox.parent / damaged["kept"]).exists()
    (destroyed,) = [entry["data"] for entry in entries if entry["event"] == "list.destroyed"]
    assert destroyed["cause"] == "it is damaged"
    assert not former.exists()
    assert [entry["event"] for entry in entries].count("list.imported") == 2
    assert "Traceback" not in ended.stderr
