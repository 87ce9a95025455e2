"""Chapters of a van's life that several tests begin with: first start, enrolment, a deployment, its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.vanroot.answer import Settings
from provisioning.demo.office import PLACE, Office
from provisioning.image import enrol
from tests.broker import Site, free_port
from tests.image import bench, qemu
from tests.image.bench import Ring

__all__ = ["Enrolled", "enrolled", "fallen_back", "first_start", "retired", "van_with_something_to_lose"]


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
