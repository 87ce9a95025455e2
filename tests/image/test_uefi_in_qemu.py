"""A van with UEFI firmware and Secure Boot, in an emulator. Run by scripts/test-image; skipped without it.

Firmware is EDK2 as Debian builds it, with the release's keys enrolled. The tests run in order on one medium and with
one memory of firmware variables; what spoils a medium works on a copy. Each waits for a sentence; its limit is far off.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.errors import SignatureInvalid
from provisioning.image import release, uki
from tests.image import bench, qemu, uefi
from tests.image.bench import CACHE, Ring

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("LFR_IMAGE_TESTS") != "1", reason="builds images and boots them: scripts/test-image"
    ),
    pytest.mark.timeout(1500),
]
ACCEPT_MOVED = os.environ.get("LFR_ACCEPT_MOVED") == "1"
LOG = Path(os.environ.get("LFR_IMAGE_LOG", "/tmp/lfr-van.log")).with_stem("van-uefi")
DENIED = r"BdsDxe: failed to load Boot\d+ .*: Access Denied"
"""What EDK2 says of a file whose signature is not by a key that it holds, or does not belong to it."""
STARTED = "LFR-BOOT"


@dataclass(frozen=True, slots=True)
class Machine:
    """A medium and the memory of the firmware it is started by."""

    disk: Path
    variables: Path

    def copy(self, folder: Path) -> Machine:
        """Another machine in the same state."""
        folder.mkdir()
        other = Machine(folder / "van.img", folder / "variables.fd")
        for source, target in ((self.disk, other.disk), (self.variables, other.variables)):
            subprocess.run(["cp", "--sparse=always", source, target], check=True)
        return other


@pytest.fixture(scope="module")
def ring() -> Ring:
    return bench.make_ring(CACHE / "ring")


@pytest.fixture(scope="module")
def first(ring: Ring) -> Path:
    return uefi.image(ring, "1.0.0", 1, accept_moved=ACCEPT_MOVED)


@pytest.fixture(scope="module")
def second(ring: Ring) -> Path:
    return uefi.image(ring, "1.1.0", 2, accept_moved=ACCEPT_MOVED)


@pytest.fixture(scope="module")
def machine(ring: Ring, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    place = tmp_path_factory.mktemp("uefi")
    variables, said = uefi.variables(ring, place / "variables.fd", place)
    assert [f"ENROL {name} taken" in said for name in ("db", "KEK", "PK")] == [True] * 3, said
    assert re.search(r"ENROL setup mode +0", said), said
    made = Machine(place / "van.img", variables)
    bench.flashed(first, ring, made.disk)
    return made


@pytest.fixture
def copy(machine: Machine, tmp_path: Path) -> Machine:
    return machine.copy(tmp_path / "copy")


def started(machine: Machine, *sticks: Path):  # type: ignore[no-untyped-def]
    return qemu.van(machine.disk, LOG, sticks, variables=machine.variables)


def test_firmware_starts_the_signed_image_and_it_commits(machine: Machine) -> None:
    with started(machine) as van:
        van.wait("LFR-BOOT slot A")
        van.wait("LFR-SLOTS firmware knows both slots now, and starts A", unless="LFR-SLOTS failed")
        van.wait(r"LFR-COMMIT slot is good, floor is version 1\.0\.0 epoch 1", 900, unless="self-test failed")


def test_a_second_build_has_the_same_hashes(first: Path, ring: Ring) -> None:
    """Of everything that was built; what is sealed afterwards holds a signature and its time."""
    if os.environ.get("LFR_IMAGE_TWICE") != "1":
        pytest.skip("doubles the time: scripts/test-image --twice")
    again = uefi.image(ring, "1.0.0", 1, accept_moved=ACCEPT_MOVED, name="again")
    built = [release.read(folder / release.RELEASE_FILE).digests for folder in (first, again)]
    for name in (uki.UNSIGNED, "bundle/rootfs.img", "sbom.cdx.json", "partition/cfg", "partition/state"):
        assert built[0][name] == built[1][name], name


def spoilt(ring: Ring, first: Path, good: Path, out: Path) -> dict[str, Callable[[], Path]]:
    """Kernel images that firmware must not start, by what is wrong with them."""
    root_hash = release.read(first / release.RELEASE_FILE).root_hash.encode()
    other = bytes([root_hash[0] ^ 1]) + root_hash[1:]
    return {
        "unsigned": lambda: first / uki.UNSIGNED,
        "signed by the development key": lambda: uefi.signed_by(ring, "development", first / uki.UNSIGNED, out),
        "another command line": lambda: uefi.rewritten(
            good, out, lambda b: b.replace(b"quiet panic=5", b"debug panic=5")
        ),
        "another root": lambda: uefi.rewritten(good, out, lambda b: b.replace(root_hash, other)),
    }


@pytest.mark.parametrize("what", ["unsigned", "signed by the development key", "another command line", "another root"])
def test_firmware_does_not_start_a_kernel_image_that_is_not_the_signed_one(
    what: str, copy: Machine, ring: Ring, first: Path, tmp_path: Path
) -> None:
    good = uefi.kernel_of(copy.disk, tmp_path / "good.efi")
    uefi.put_kernel(copy.disk, spoilt(ring, first, good, tmp_path / "spoilt.efi")[what]())
    with pytest.raises(SignatureInvalid):  # image verify does not take it, either
        uki.check(copy.disk, ring.keyring, release.read(first / release.RELEASE_FILE).root_hash)
    with started(copy) as van:
        van.wait(DENIED, unless=STARTED)


REFUSED = r"LFR-BOOT slot A: the root (is not the signed one|cannot be mounted)\. Restarting"


def test_the_first_root_does_not_open_a_partition_that_was_put_in_the_place_of_the_root(
    copy: Machine, second: Path
) -> None:
    """The other root is one of ours, whole and signed, and belongs to another kernel."""
    root, other = qemu.part(copy.disk, "rootA"), (second / "bundle/rootfs.img").read_bytes()
    with copy.disk.open("r+b") as stream:
        stream.seek(root.start)
        stream.write(other.ljust(root.size, b"\0"))
    with started(copy) as van:
        van.wait(REFUSED, unless="LFR-SLOTS")


def test_one_byte_that_was_changed_anywhere_in_the_root_stops_the_van_that_reads_it(copy: Machine) -> None:
    """The first block: the squashfs's own head, which every start reads."""
    root = qemu.part(copy.disk, "rootA")
    with copy.disk.open("r+b") as stream:
        stream.seek(root.start + 100)
        stream.write(b"\xa5")
    with started(copy) as van:
        van.wait(REFUSED, unless="LFR-SLOTS")


def test_a_foreign_medium_in_front_is_refused_by_firmware_and_the_van_starts_from_its_own(
    copy: Machine, first: Path, tmp_path: Path
) -> None:
    stick = foreign_medium(tmp_path, first / uki.UNSIGNED)
    with qemu.van(copy.disk, LOG, variables=copy.variables, in_front=stick) as van:
        van.wait(r"BdsDxe: failed to load Boot\d+ .*USB.*: Access Denied", unless=STARTED)
        van.wait("LFR-BOOT slot A")


def test_a_signed_image_on_a_foreign_medium_does_not_go_on_from_there(copy: Machine, tmp_path: Path) -> None:
    stick = foreign_medium(tmp_path, uefi.kernel_of(copy.disk, tmp_path / "good.efi"))
    with qemu.van(copy.disk, LOG, variables=copy.variables, in_front=stick) as van:
        van.wait("it was started from a foreign partition", unless="LFR-SLOTS")


def foreign_medium(folder: Path, kernel: Path) -> Path:
    """A medium that any firmware would try to start."""
    tree = folder / "EFI/BOOT"
    tree.mkdir(parents=True)
    (tree / Path(uki.PLACE).name).write_bytes(kernel.read_bytes())
    return qemu.stick(folder / "foreign.img", "FOREIGN", [folder / "EFI"])


def test_an_update_is_tried_once_and_stays_when_its_self_test_passes(
    machine: Machine, second: Path, tmp_path: Path
) -> None:
    stick = qemu.stick(tmp_path / "update.img", "LFR-UPDATE", [next(second.glob("*.raucb"))])
    with started(machine, stick) as van:
        van.wait("LFR-UPDATE .*: Installed", 1200)
        van.wait("LFR-BOOT slot B", 600)
        van.wait(r"LFR-COMMIT slot is good, floor is version 1\.1\.0 epoch 2", 900, unless="self-test failed")
        van.wait("LFR-UPDATE .*: AlreadyRuns", 600)
    with started(machine) as van:  # the firmware remembers
        van.wait("LFR-BOOT slot B", unless="LFR-BOOT slot A")


def test_an_image_that_fails_its_self_test_is_followed_by_the_one_before(
    machine: Machine, ring: Ring, tmp_path: Path
) -> None:
    model = tmp_path / "overlay/opt/lfr/models/mobilefacenet/mobilefacenet-dynamic-int8.tflite"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"not the model that its card names")
    broken = uefi.image(ring, "1.2.0", 2, accept_moved=ACCEPT_MOVED, overlay=tmp_path / "overlay", name="broken")
    stick = qemu.stick(tmp_path / "broken.img", "LFR-UPDATE", [next(broken.glob("*.raucb"))])
    with started(machine, stick) as van:
        van.wait("LFR-BOOT slot B")
        van.wait("LFR-UPDATE .*: Installed", 1200)
        van.wait("LFR-BOOT slot A", 600)
        van.wait("LFR-COMMIT self-test failed", 900)
        van.wait("LFR-BOOT slot B", 600)
        van.wait(r"LFR-COMMIT version 1\.1\.0 epoch 2 is committed", 600)
        van.wait("LFR-UPDATE .*: FailedBefore", 900)
