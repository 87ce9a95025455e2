"""A further control room at a real broker: what it may do when it is enrolled, and that it may not before or after."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from edge.alert import topics
from edge.errors import BadInput, BrokerUnavailable, KeyUnusable
from provisioning.broker import write_broker
from provisioning.rooms import add_room, revoke_room
from provisioning.site import CONTROL_LIFE, add_watcher, issue, load_authority, pair_files
from tests.broker import Site, opened

pytestmark = pytest.mark.broker
NOT_AUTHORISED = 0x87
SAID = (topics.RECEIPT, topics.ADJUDICATION, topics.REVOCATION)


def restart(site: Site) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    write_broker(site.folder, port=site.port, address="127.0.0.1", user=user)
    site.stop_broker()
    site.start_broker()


def test_an_enrolled_room_speaks_as_the_control_room_and_a_revoked_one_is_not_let_in(site: Site) -> None:
    folder = add_room("north", site.folder, site.folder / "room-north")
    restart(site)
    room = opened(site, folder, "control-room-north")
    for kind in SAID:
        assert room.publish(f"lfr/1/van-1/{kind}", b"x") != NOT_AUTHORISED
    assert room.publish(f"lfr/1/van-1/{topics.ALERT}", b"x") == NOT_AUTHORISED
    room.close()
    revoke_room("north", site.folder)
    restart(site)
    opened(site, site.room, "control-room").close()
    with pytest.raises(BrokerUnavailable):
        opened(site, folder, "control-room-north")


def test_a_room_that_is_not_enrolled_may_say_nothing(site: Site) -> None:
    pair_files(site.room, "control-room-east", issue(load_authority(site.folder), "control-room-east", CONTROL_LIFE))
    room = opened(site, site.room, "control-room-east")
    for kind in SAID:
        assert room.publish(f"lfr/1/van-1/{kind}", b"x") == NOT_AUTHORISED
    room.close()


@pytest.mark.parametrize("name", ["", "North", "../x", "a/b", "a+", "control-room", "control-room-x", "watch", "a\n"])
def test_a_name_that_is_no_rooms_is_refused(site: Site, name: str) -> None:
    with pytest.raises(BadInput):
        add_room(name, site.folder, site.folder / "new")


def test_what_is_carried_is_readable_by_its_owner_only_and_a_name_is_given_once(site: Site, tmp_path: Path) -> None:
    folder = add_room("north", site.folder, tmp_path / "north")
    secret = [path for path in folder.iterdir() if path.suffix in {".key", ".jwk", ".jwks"}]
    assert len(secret) == 5
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    assert not (folder / "control-room.key").exists()
    with pytest.raises(KeyUnusable, match="exists already"):
        add_room("north", site.folder, tmp_path / "again")
    with pytest.raises(KeyUnusable, match="exists already"):
        add_watcher("control-room-north", site.folder)
