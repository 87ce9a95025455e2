"""A van from its first start to its last update, in an emulator. Run by scripts/test-image; skipped without it.

The tests are the chapters of one van's life and run in order on one medium. A second van, a copy of the first as it is
after its first start, gets a broken image meanwhile: an emulator keeps one core busy, and most machines have two.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from edge.deployment.permit import LEASE_S
from edge.sight.card import default_directory, read
from edge.trust.revocation import EVERYBODY
from provisioning.image import flash, ledger, release, sbom, sign
from tests.broker import Site, free_port
from tests.image import bench, chapters, qemu
from tests.image.bench import CACHE, Ring
from tests.image.outside import ControlRoom, control_room

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("LFR_IMAGE_TESTS") != "1", reason="builds an image and boots it: scripts/test-image"
    ),
    pytest.mark.timeout(1500),
]
REPORTED_EVERY_S = 1.0
"""The van's counters come once in its second."""
ACCEPT_MOVED = os.environ.get("LFR_ACCEPT_MOVED") == "1"


@pytest.fixture(scope="module")
def ring() -> Ring:
    return bench.make_ring(CACHE / "ring")


@pytest.fixture(scope="module")
def first(ring: Ring) -> Path:
    return bench.image(ring, "1.0.0", 1, accept_moved=ACCEPT_MOVED)


@pytest.fixture(scope="module")
def second(ring: Ring) -> Path:
    return bench.image(ring, "1.1.0", 2, accept_moved=ACCEPT_MOVED)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("van")


@pytest.fixture(scope="module")
def disk(first: Path, ring: Ring, place: Path) -> Path:
    target = place / "van.img"
    if earlier := os.environ.get("LFR_IMAGE_DISK"):  # a medium that an earlier run left, to go on with a later chapter
        subprocess.run(["cp", "--sparse=always", earlier, target], check=True)
        shutil.copyfile(bench.ledger_of(Path(earlier)), bench.ledger_of(target))
        return target
    line = bench.flashed(first, ring, target)
    assert len(line.partitions) == 8
    return target


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    port = free_port()
    made = Site(bench.make_site(place / "site", port), port)
    made.start_broker()
    yield made
    made.stop_broker()


LOG = Path(os.environ.get("LFR_IMAGE_LOG", "/tmp/lfr-van.log"))
SECOND_LOG = LOG.with_stem(f"{LOG.stem}-2")


@pytest.fixture(scope="module")
def second_van(disk: Path, ring: Ring, place: Path) -> Iterator[Future[None]]:
    """A copy of the van as it is now, which takes a broken image and comes back from it while other chapters run."""
    overlay = place / "broken"
    model = overlay / "opt/lfr/models/mobilefacenet/mobilefacenet-dynamic-int8.tflite"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"not the model that its card names")
    broken = bench.image(ring, "1.2.0", 2, accept_moved=ACCEPT_MOVED, overlay=overlay, name="broken")
    stick = qemu.stick(place / "broken.img", "LFR-UPDATE", [next(broken.glob("*.raucb"))])
    copy = place / "second-van.img"
    subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
    with ThreadPoolExecutor(1, "second van") as pool:
        yield pool.submit(chapters.fallen_back, copy, stick, SECOND_LOG)


def boot(disk: Path, *sticks: Path):  # type: ignore[no-untyped-def]
    return qemu.van(disk, LOG, sticks)


def test_a_medium_that_gives_back_something_else_is_caught(first: Path, ring: Ring, place: Path) -> None:
    card = place / "bad.img"

    def fail(device: Path) -> None:
        with device.open("r+b") as stream:
            stream.seek(150 << 20)
            stream.write(b"\x01")

    with card.open("wb") as stream:
        stream.truncate(flash.size_needed(first))
    book = place / "bad.ledger"
    with bench.loop_device(card) as device, pytest.raises(flash.MediumFaulty, match="partition bootB"):
        flash.flash(first, ring.keyring, device, serial=card.name, ledger=book, after_write=fail)
    (line,) = ledger.read(book)
    assert (line["quarantined"]["serial"], line.get("secret")) == (card.name, None)
    card.unlink()


def test_a_second_build_has_the_same_hashes(first: Path, ring: Ring) -> None:
    if os.environ.get("LFR_IMAGE_TWICE") != "1":
        pytest.skip("doubles the time: scripts/test-image --twice")
    again = bench.image(ring, "1.0.0", 1, accept_moved=ACCEPT_MOVED, name="again")
    assert release.read(again / "release.json").digests == release.read(first / "release.json").digests


def test_the_bill_of_materials_lists_every_package_and_wheel_of_the_root(first: Path, place: Path) -> None:
    root = first / "bundle/rootfs.img"
    command = ["unsquashfs", "-no-progress", "-quiet", "-dest", str(place / "root"), str(root)]
    wanted = ["usr/share/lfr/dpkg-status", "opt/lfr/site/*.dist-info/METADATA"]
    subprocess.run([*command, *wanted], check=True, capture_output=True)
    document = sbom.read(first / "sbom.cdx.json")
    from provisioning.image.debian import installed

    in_root = {p.name: p.version for p in installed((place / "root/usr/share/lfr/dpkg-status").read_text())}
    listed = sbom.names(document, "deb")
    assert len(in_root) > 100
    assert in_root.items() <= listed.items()
    wheels = sbom.wheels_in(place / "root/opt/lfr/site")
    assert len(wheels) > 20
    assert wheels == sbom.names(document, "pypi")


def test_a_new_van_makes_its_keys_and_its_image_commits(disk: Path) -> None:
    chapters.first_start(disk, LOG)


@pytest.fixture(scope="module")
def ready(disk: Path, site: Site, place: Path) -> chapters.Enrolled:
    return chapters.enrolled(disk, site, place)


@pytest.fixture(scope="class")
def room(site: Site) -> Iterator[ControlRoom]:
    with control_room(site, "out") as listening:
        yield listening


@pytest.fixture(scope="class")
def van(disk: Path, ready: chapters.Enrolled, room: ControlRoom, place: Path) -> Iterator[qemu.Van]:
    assert not room.alerts
    stick = bench.deployment_stick(ready.office, ready.recipient, place / "deploy.img", place / "deploy", rounds=6)
    with boot(disk, stick) as machine:
        yield machine


@pytest.mark.usefixtures("second_van")
class TestOut:
    """The van is out, with a film of several rounds for its camera; each chapter begins where the last one ended.

    The fault is put between the van and its disk. Its system and its software lie on the same disk as its list.
    """

    def test_an_enrolled_van_takes_a_deployment_in_and_says_outside_that_it_matches(
        self, van: qemu.Van, room: ControlRoom
    ) -> None:
        van.wait(f"LFR-ENROL enrolled as {bench.VAN}")
        van.wait("LFR-DEPLOY the deployment is on the van", 400)
        room.becomes(van, "matching")

    def test_a_list_that_its_medium_does_not_give_back_is_matched_with_by_nobody_for_as_long_as_that_lasts(
        self, van: qemu.Van, room: ControlRoom, disk: Path
    ) -> None:
        """Everything that the van needs of its list is in its memory, and the system has the file in its own."""
        before = room.counters(van, lambda counts: counts.frames >= 2, "frames")
        van.medium_fails(qemu.part(disk, "ops"))
        said = room.becomes(van, "not matching")
        assert "watchlist.db: cannot be read from the disk any more (Input/output error)" in said.detail
        assert (said.since - before.at).total_seconds() <= LEASE_S + 2 * REPORTED_EVERY_S
        # both men walk by, and nobody looks
        begun = room.counters(van, lambda counts: counts.at > said.since, "counters under the fault")
        end = begun.at + timedelta(seconds=bench.ROUND_S)
        after = room.counters(van, lambda counts: counts.at > end, "a round of the film under the fault")
        assert (after.frames, after.faces) == (begun.frames, begun.faces)
        assert (after.alerts, room.alerts) == (0, [])
        assert room.states[-1].condition == "not matching"
        van.medium_answers()
        room.becomes(van, "matching")

    def test_once_it_is_there_again_the_alert_reaches_the_control_room(self, van: qemu.Van, room: ControlRoom) -> None:
        alert = room.until(van, lambda: room.alerts and room.alerts[0], "an alert", 400)
        assert (alert.van, alert.deployment, alert.reference) == (bench.VAN, "op-1", "SUBJECT-001")
        assert alert.model == embedder_digest()
        # two men passed and one is on the list; nothing waits, because the alert has been received
        counts = room.counters(van, lambda counts: counts.alerts_delivered == 1, "a receipt")
        assert (counts.alerts, counts.alerts_waiting) == (1, 0)
        assert counts.faces >= 2

    def test_a_medium_that_answers_nothing_leaves_no_van_that_looks_green(
        self, van: qemu.Van, room: ControlRoom
    ) -> None:
        """Whoever asks it waits in the kernel, and so might whoever says how the van is."""
        before = room.health
        assert before is not None
        van.medium_hangs()
        said = room.becomes(van, "not matching")
        assert said.detail == "Nobody has confirmed that matching is allowed."
        failed = room.becomes(van, "failed")
        assert "part: hangs" in failed.detail
        assert (failed.since - before.at).total_seconds() <= 30
        assert len(room.alerts) == 1
        van.cut()

    def test_switched_on_again_it_goes_on_because_it_still_may_until_its_authority_is_withdrawn_behind_a_broken_disk(
        self, disk: Path, second: Path, place: Path, room: ControlRoom, ready: chapters.Enrolled
    ) -> None:
        """An update is on a stick as well, and none is taken while a deployment is on."""
        update = qemu.stick(place / "early.img", "LFR-UPDATE", [next(second.glob("*.raucb"))])
        with boot(disk, update) as van:
            van.wait("LFR-VOLUME ops is open")
            room.becomes(van, "matching")
            van.medium_fails(qemu.part(disk, "ops"))
            room.becomes(van, "not matching")
            room.say(bench.VAN, ready.office.revocation(EVERYBODY, "stood down"))
            ended = room.until(
                van, lambda: next((s for s in room.states if "was withdrawn" in s.detail), None), "a withdrawal"
            )
            assert "stood down" in ended.detail
            van.medium_answers()
            last = room.until(van, lambda: room.states[-1] if room.states[-1].state == "offline" else None, "its end")
            assert last.condition == "ended"
            since = room.states[room.states.index(ended) :]
            assert {state.condition for state in since} == {"not matching", "ended"}
            assert len(room.alerts) == 1
            van.seen = 0
            van.wait("LFR-UPDATE .*: DeploymentRunning", 600)


def embedder_digest() -> str:
    """SHA-256 of the int8 embedder that the image carries."""
    return read(default_directory() / "mobilefacenet").variants["dynamic-int8"].sha256


def test_a_retired_list_cannot_be_opened(disk: Path, place: Path) -> None:
    chapters.retired(disk, LOG, place)


def test_whoever_had_the_card_for_a_minute_or_puts_sticks_in_is_refused_by_name(disk: Path, place: Path) -> None:
    chapters.attacked(disk, place, LOG)


def spoiled(second: Path, ring: Ring, place: Path) -> list[Path]:
    """Bundles that must be refused, named by the refusal that is expected."""
    folder = place / "refused"
    folder.mkdir()
    good = next(second.glob("*.raucb"))
    content = place / "content"

    def bundle(name: str, signer: str = "release", **changed: object) -> None:
        shutil.rmtree(content, ignore_errors=True)
        shutil.copytree(second / "bundle", content, copy_function=os.link)
        record = json.loads((content / "release.json").read_text())
        for key in changed.keys() & record.keys():
            record[key] = changed[key]
        (content / "release.json").unlink()
        (content / "release.json").write_text(json.dumps(record))
        manifest = (content / "manifest.raucm").read_text()
        if "compatible" in changed:
            manifest = manifest.replace("lfr-edge-qemu-arm64", str(changed["compatible"]))
        (content / "manifest.raucm").unlink()
        (content / "manifest.raucm").write_text(manifest)
        sign._bundle(content, folder / f"{name}.raucb", ring.signer(signer))

    bundle("1-WrongAuthority", "stranger")
    bundle("2-DevelopmentSigned", "development")
    bundle("3-WrongBoard", compatible="lfr-edge-toaster")
    bundle("4-OlderVersion", version="0.9.0", epoch=1)
    bundle("5-LowerEpoch", version="9.0.0", epoch=0)
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "6-PayloadDamaged.raucb").write_bytes(data)
    (folder / "7-Truncated.raucb").write_bytes(good.read_bytes()[: len(data) // 2])
    return sorted(folder.iterdir())


def test_every_wrong_update_is_refused_by_name_and_a_good_one_commits(
    disk: Path, second: Path, ring: Ring, place: Path
) -> None:
    good = place / "8-good.raucb"
    shutil.copyfile(next(second.glob("*.raucb")), good)
    stick = qemu.stick(place / "update.img", "LFR-UPDATE", [*spoiled(second, ring, place), good])
    with boot(disk, stick) as van:
        van.wait("LFR-BOOT slot A")
        van.wait("LFR-VOLUME data is open,")
        van.wait("LFR-UPDATE done", 1200)
        assert not van.lines("LFR-VOLUME ops")  # it was retired
        said = {
            line.split()[1].rstrip(":"): line.split()[2].rstrip(":")
            for line in van.lines("LFR-UPDATE")
            if ".raucb:" in line
        }
        for name, refusal in said.items():
            expected = name.removesuffix(".raucb")[2:]
            assert refusal == ("Installed" if expected == "good" else expected), van.lines("LFR-UPDATE")
        assert len(said) == 8
        van.wait("LFR-BOOT slot B order B A")
        van.wait(r"LFR-COMMIT version 1\.1\.0 epoch 2 is on trial", 400)
        van.wait(r"LFR-COMMIT slot is good, floor is version 1\.1\.0 epoch 2", 600)


def test_after_the_commit_no_former_and_no_same_image_is_taken_and_the_van_has_lost_nothing(
    disk: Path, first: Path, second: Path, place: Path
) -> None:
    former = place / "1-former.raucb"
    shutil.copyfile(next(first.glob("*.raucb")), former)
    stick = qemu.stick(place / "former.img", "LFR-UPDATE", [former, place / "8-good.raucb"])
    asked = qemu.stick(place / "report.img", "LFR-REPORT", [])
    with boot(disk, stick, asked) as van:
        van.wait("LFR-BOOT slot B")
        van.wait("LFR-COMMIT slot is good", 900)
        beginning = van.seen
        van.wait("LFR-UPDATE 1-former.raucb: LowerEpoch", 900)
        van.wait("LFR-UPDATE 8-good.raucb: AlreadyRuns", 900)
        van.seen = beginning
        report = json.loads(van.wait(r"LFR-REPORT done (\{.*\})\s*\n", 300)[1])
    assert report["fault"] == []
    assert report["van"] == bench.VAN
    assert report["audit"]["entries"] > 0
    assert report["outbox"] == {"raised": 1, "waiting": 0}
    assert report["floor"] == {"version": "1.1.0", "epoch": 2}


def test_a_broken_image_falls_back_to_the_one_before_and_is_not_tried_again(second_van: Future[None]) -> None:
    second_van.result()
