"""Which media may be overwritten, and what happens when one does not give back what it was given."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from provisioning.image import devices, flash
from provisioning.image.devices import Device
from provisioning.image.tools import ImageRefused, ImageUnusable

GB = 10**9
NEEDED = 2 * GB


def device(**changed: object) -> Device:
    values: dict[str, object] = {
        "path": Path("/dev/sdx"), "kind": "disk", "size": 32 * GB, "removable": True,
        "read_only": False, "serial": "S1",
    }  # fmt: skip
    return Device(**{**values, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "forced", "because"),
    [
        (device(), "", None),
        (device(kind="loop", path=Path("/dev/loop7")), "", None),
        (device(kind="file", size=0), "", None),
        (device(kind="part"), "", "not a whole disk"),
        (device(kind="rom"), "", "not a whole disk"),
        (device(kind="crypt"), "", "not a whole disk"),
        (device(root=True, in_use=("/",)), "S1", "system you are working on"),
        (device(in_use=("/media/stick",)), "", "in use"),
        (device(in_use=("[SWAP]",)), "", "in use"),
        (device(in_use=("held by md0",)), "", "in use"),
        (device(in_use=("/data",)), "S1", "in use"),
        (device(size=NEEDED - 1), "", "needs"),
        (device(size=0), "", "needs"),
        (device(read_only=True), "", "is write-protected"),
        (device(removable=False), "", "built in"),
        (device(removable=False), "S2", "built in"),
        (device(removable=False, serial=""), "", "built in"),
        (device(removable=False), "S1", None),
    ],
)
def test_a_wrong_target_is_refused_and_the_reason_is_named(target: Device, forced: str, because: str | None) -> None:
    if because is None:
        devices.judge(target, NEEDED, forced)
        return
    with pytest.raises(ImageRefused, match=because):
        devices.judge(target, NEEDED, forced)


LSBLK = {
    "blockdevices": [
        {"name": "sda", "path": "/dev/sda", "type": "disk", "size": 5 * GB, "ro": False, "rm": False, "hotplug": False,
         "tran": "sata", "serial": "A", "model": "Inside", "mountpoints": [None],
         "children": [{"name": "sda1", "type": "part", "mountpoints": [None],
                       "children": [{"name": "root", "type": "crypt", "mountpoints": ["/"]}]}]},
        {"name": "sdb", "path": "/dev/sdb", "type": "disk", "size": 5 * GB, "ro": False, "rm": True, "hotplug": True,
         "tran": "usb", "serial": " B ", "model": "Stick", "mountpoints": [None],
         "children": [{"name": "sdb1", "type": "part", "mountpoints": ["/media/b"]}]},
        {"name": "mmcblk0", "path": "/dev/mmcblk0", "type": "disk", "size": 5 * GB, "ro": True, "rm": False,
         "hotplug": False, "tran": "mmc", "serial": "C", "model": None, "mountpoints": [None]},
    ]
}  # fmt: skip


def test_a_mount_deep_below_a_disk_counts_as_its_own() -> None:
    inside, stick, card = devices.parse_lsblk(json.dumps(LSBLK))
    assert inside.root
    assert "held by root" in inside.in_use
    assert not inside.removable
    assert (stick.removable, stick.serial, stick.in_use) == (True, "B", ("/media/b",))
    assert (card.removable, card.read_only, card.in_use) == (True, True, ())


def test_the_disk_this_machine_runs_from_is_never_a_candidate() -> None:
    for found, why in devices.candidates(0):
        assert why or not found.root


def test_a_folder_and_a_missing_device_are_no_targets(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "no" / "such", Path("/dev/no-such-device")):
        with pytest.raises(ImageUnusable):
            devices.look_up(wrong)


BMAP = """<?xml version="1.0" ?>
<bmap version="2.0"><ImageSize> 40960 </ImageSize><BlockSize> 4096 </BlockSize><BlockMap>
<Range chksum="x"> 1-2 </Range><Range chksum="y"> 5 </Range></BlockMap></bmap>"""


def test_what_a_block_map_leaves_out_is_known_exactly() -> None:
    assert flash.empty_ranges(BMAP) == [(0, 4096), (3 * 4096, 2 * 4096), (6 * 4096, 4 * 4096)]


def test_something_else_is_no_block_map() -> None:
    for text in ("", "<bmap/>", "{}"):
        with pytest.raises(ImageUnusable):
            flash.empty_ranges(text)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """An image with two partitions, a medium that holds it, and the digests of both partitions."""
    import hashlib

    image = tmp_path / "disk.img"
    content = bytearray(8 << 20)
    content[2 << 20 : 3 << 20] = b"a" * (1 << 20)
    content[4 << 20 : 5 << 20] = b"b" * (1 << 20)
    image.write_bytes(content)
    table = "label: gpt\nstart=4096, size=2048, name=one\nstart=8192, size=2048, name=two\n"
    subprocess.run(["sfdisk", "--quiet", str(image)], input=table.encode(), check=True, capture_output=True)
    medium = tmp_path / "medium"
    medium.write_bytes(image.read_bytes())
    letters = {"partition/one": b"a", "partition/two": b"b"}
    return image, medium, {n: hashlib.sha256(x * (1 << 20)).hexdigest() for n, x in letters.items()}


def test_a_good_medium_reads_back_as_it_was_written(written: tuple[Path, Path, dict[str, str]]) -> None:
    image, medium, expected = written
    assert flash.read_back(medium, image, expected) == {n.removeprefix("partition/"): d for n, d in expected.items()}


@pytest.mark.parametrize(("offset", "partition"), [(2 << 20, "one"), ((5 << 20) - 1, "two")])
def test_one_wrong_byte_on_a_medium_names_its_partition(
    written: tuple[Path, Path, dict[str, str]], offset: int, partition: str
) -> None:
    image, medium, expected = written
    with medium.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"!")
    with pytest.raises(flash.MediumFaulty, match=f"partition {partition}"):
        flash.read_back(medium, image, expected)


def test_a_medium_that_ends_early_is_faulty(written: tuple[Path, Path, dict[str, str]]) -> None:
    image, medium, expected = written
    with medium.open("r+b") as stream:
        stream.truncate((4 << 20) + 100)
    with pytest.raises(flash.MediumFaulty, match="partition two"):
        flash.read_back(medium, image, expected)
