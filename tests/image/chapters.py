"""Chapters of a van's life that several tests begin with: first start, enrolment, a deployment, its end."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edge.vanroot.answer import REQUEST, REQUEST_CODE, Settings, request_code
from provisioning.demo.office import PLACE, Office
from provisioning.image import enrol
from tests.broker import Site, free_port
from tests.image import bench, qemu
from tests.image.bench import Ring

__all__ = ["Enrolled", "attacked", "enrolled", "fallen_back", "first_start", "retired", "van_with_something_to_lose"]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A van whose answer waits on its medium, and those who may send it out.

    Attributes:
        office: who signs lists and authorities.
        recipient: the van's age key, to which lists are encrypted.
    """

    office: Office
    recipient: str


def first_start(disk: Path, log: Path) -> None:
    """Start a freshly flashed van: it makes its volumes and keys, and its image commits."""
    with qemu.van(disk, log) as van:
        van.wait("LFR-BOOT slot A")
        van.wait("LFR-VOLUME data is open and new")
        van.wait("LFR-ENROL keys made here")
        van.wait(r"LFR-COMMIT slot is good, floor is version 1\.0\.0 epoch 1", 600, unless="self-test failed")


def enrolled(disk: Path, site: Site, place: Path) -> Enrolled:
    """Answer the van's request at a site; the van takes the answer in at its next start."""
    asked = bench.request_from(disk, place / "request")
    office = bench.office(place / "office", "op-1")
    (place / "office-van").mkdir()
    office.enrol_van(place / "office-van")
    root, revokers = (place / "office-van" / name for name in ("root.json", "revokers.jwks"))
    settings = Settings(bench.VAN, bench.HOST, site.port, fixed=PLACE)
    secret = enrol.secret_of(bench.VAN, bench.ledger_of(disk))
    enrol.answer(settings, asked, site.folder, place / "answer", root=root, revokers=revokers, secret=secret)
    bench.answer_to(disk, place / "answer")
    return Enrolled(office, (asked / "van.age.pub").read_text().strip())


def attacked(disk: Path, place: Path, log: Path) -> None:
    """Start an enrolled van that is out for nothing, after a thief had its card for a minute and put sticks into it.

    The thief has an authority of his own and the request that the van once left on its open partition. He edits
    that, puts in a foreign medium labelled like it, and a deployment whose ``lfr.toml`` names his own root of trust.
    """
    forged, theirs = _thiefs_answer(disk, place), place / "thief-deployment"
    theirs.mkdir()
    (theirs / "lfr.toml").write_text(
        '[deployment]\nid = "op-thief"\n[camera]\nsource = "street.mp4"\n[repository]\nroot = "root.json"\n'
    )
    (theirs / "root.json").write_text("{}")
    bench.answer_to(disk, forged)
    foreign = place / "foreign-cfg"
    shutil.copytree(forged, foreign / "enrol")
    sticks = [
        qemu.stick(place / "thief-cfg.img", "cfg", [foreign / "enrol"]),
        qemu.stick(place / "thief-deploy.img", "LFR-DEPLOY", sorted(theirs.iterdir())),
    ]
    before = [stick.read_bytes() for stick in sticks]
    with qemu.van(disk, log, sticks) as van:
        van.wait("LFR-ENROL refused: ", 400, unless="LFR-ENROL enrolled")
        van.wait(r"LFR-DEPLOY refused: .*repository", 400, unless="the deployment is on the van")
        van.wait("LFR-COMMIT slot is good", 900)
        assert not van.lines("LFR-ENROL enrolled")
    assert [stick.read_bytes() for stick in sticks] == before, "nothing is written to a stranger's medium"


def _thiefs_answer(disk: Path, place: Path) -> Path:
    """A whole answer to the van's own request, by an authority and with a secret of the thief's."""
    thief = bench.make_site(place / "thief-site", free_port())
    secret = bytes(32)
    request = Path(shutil.copytree(place / "request", place / "thief-request"))
    files = {name: (request / name).read_bytes() for name in REQUEST}
    (request / REQUEST_CODE).write_text(request_code(secret, files))
    root = place / "thief-root.json"
    root.write_text("{}")
    revokers = place / "thief-revokers.jwks"
    revokers.write_text('{"keys": []}')
    settings = Settings(bench.VAN, "thief.example", 8883, fixed=PLACE)
    enrol.answer(settings, request, thief, place / "thief-answer", root=root, revokers=revokers, secret=secret)
    return place / "thief-answer"


def retired(disk: Path, log: Path, place: Path) -> None:
    """End the deployment with its medium."""
    medium = qemu.stick(place / "retire.img", "LFR-RETIRE", [])
    with qemu.van(disk, log, [medium]) as van:
        van.wait("LFR-VOLUME ops is retired: its old key was tried and no longer opens it", 600)


def fallen_back(disk: Path, stick: Path, log: Path) -> None:
    """Install an image whose self-test fails: three tries, then the old one again, and the stick is refused."""
    with qemu.van(disk, log, [stick], name="second van") as van:
        van.wait("LFR-UPDATE .*: Installed", 1200)
        for left in (2, 1, 0):
            van.wait(rf"LFR-BOOT slot B order B A left A \d B {left}", 600)
            van.wait("LFR-COMMIT self-test failed", 900)
        van.wait("LFR-BOOT slot A", 600)
        van.wait(r"LFR-COMMIT version 1\.0\.0 epoch 1 is committed", 600)
        van.wait("LFR-COMMIT slot is good", 900)
        van.wait("LFR-UPDATE .*: FailedBefore", 600)


def van_with_something_to_lose(first: Path, ring: Ring, disk: Path, place: Path, log: Path) -> None:
    """A van at rest whose audit log is written and whose one alert found no broker and waits."""
    bench.flashed(first, ring, disk)
    first_start(disk, log)
    port = free_port()
    site = Site(bench.make_site(place / "site", port), port)
    ready = enrolled(disk, site, place)
    medium = bench.deployment_stick(ready.office, ready.recipient, place / "deploy.img", place / "deploy")
    with qemu.van(disk, log, [medium]) as van:
        van.wait("LFR-DEPLOY the deployment is on the van", 400)
        van.wait(r"alerts 1, waiting for the broker 1", 600)
    retired(disk, log, place)
