"""File systems, verity and the A/B disk, with every identifier and time stamp fixed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from provisioning.image.board import MIB, Board
from provisioning.image.tools import EPOCH, ImageUnusable, run

__all__ = [
    "ENVIRONMENT_SIZE",
    "Verity",
    "block_map",
    "boot_script",
    "disk",
    "fat",
    "level_times",
    "offset_of",
    "root_image",
    "state",
]

SALT = "6c66722d656467652d726f6f742d73616c742d76312d2d2d2d2d2d2d2d2d2d2d"
"""A fixed verity salt: it protects against tables of hashes of common blocks, which is no matter for public code."""
VERITY_UUID = "5a3c0d1e-1f2e-4ed6-8a11-0000000000aa"
STATE_UUID = "5a3c0d1e-1f2e-4ed6-8a11-0000000000bb"
DISK_UUID = "5a3c0d1e-1f2e-4ed6-8a11-0000000000cc"
ENVIRONMENT_SIZE = 0x4000
"""Bytes of the boot loader's environment; the same number stands in fw_env.config and in the boot script."""
_BLOCK = 4096
_SECTOR = 512
_ESP = 'partition-type-uuid = "c12a7328-f81f-11d2-ba4b-00c04fd93b93" bootable = true'

_BOOT_SCRIPT = """\
# Takes the first slot of BOOT_ORDER that has tries left. The environment is a file with a checksum; when power was
# cut while it was written it is not read, and both slots get their tries back: verity stops a half-written one.
# The RAM address lies behind kernel and first root.
setenv envaddr 0x4c000000
if load {disk}:1 ${{envaddr}} uboot.env; then
  env import -c ${{envaddr}} ${{filesize}} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
fi
test -n "${{BOOT_ORDER}}" || setenv BOOT_ORDER "A B"
test -n "${{BOOT_A_LEFT}}" || setenv BOOT_A_LEFT 3
test -n "${{BOOT_B_LEFT}}" || setenv BOOT_B_LEFT 3
setenv slot
for s in "${{BOOT_ORDER}}"; do
  if test "x${{slot}}" != "x"; then
    true
  elif test "x${{s}}" = "xA"; then
    if test ${{BOOT_A_LEFT}} -gt 0; then setexpr BOOT_A_LEFT ${{BOOT_A_LEFT}} - 1; setenv slot A; setenv bp 2; fi
  elif test "x${{s}}" = "xB"; then
    if test ${{BOOT_B_LEFT}} -gt 0; then setexpr BOOT_B_LEFT ${{BOOT_B_LEFT}} - 1; setenv slot B; setenv bp 3; fi
  fi
done
if test "x${{slot}}" = "x"; then
  echo LFR-BOOT no slot has a try left: both get theirs back
  setenv BOOT_A_LEFT 3
  setenv BOOT_B_LEFT 3
fi
env export -c -s {size:#x} ${{envaddr}} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
fatwrite {disk}:1 ${{envaddr}} uboot.env {size:#x}
if test "x${{slot}}" = "x"; then reset; fi
echo LFR-BOOT slot ${{slot}} order ${{BOOT_ORDER}} left A ${{BOOT_A_LEFT}} B ${{BOOT_B_LEFT}}
setenv bootargs "console={console} quiet panic=5 ro rauc.slot=${{slot}}"
if load {disk}:${{bp}} ${{kernel_addr_r}} vmlinuz; then
  if load {disk}:${{bp}} ${{ramdisk_addr_r}} initrd.gz; then
    setenv rs ${{filesize}}
    booti ${{kernel_addr_r}} ${{ramdisk_addr_r}}:${{rs}} ${{fdtcontroladdr}}
  fi
fi
echo LFR-BOOT slot ${{slot}} does not start
sleep 1
reset
"""


@dataclass(frozen=True, slots=True)
class Verity:
    """What opens a root: its hash, and where its hash tree begins in bytes."""

    root_hash: str
    hash_offset: int

    @property
    def text(self) -> str:
        """``/verity.conf`` of the first root."""
        return f"ROOT_HASH={self.root_hash}\nHASH_OFFSET={self.hash_offset}\n"


def level_times(root: Path) -> None:
    """Set every time stamp that is later than the build's own to it; older ones are the packages'."""
    newer: list[str | Path] = [
        "find",
        root,
        "-newermt",
        f"@{EPOCH}",
        "-exec",
        "touch",
        "--no-dereference",
        f"--date=@{EPOCH}",
        "{}",
        "+",
    ]
    run(newer, thing="time stamps")


def root_image(root: Path, out: Path, board: Board) -> Verity:
    """Squash the root file system and append its verity hash tree.

    Raises:
        ImageUnusable: the result is larger than the board's root partition.
    """
    out.unlink(missing_ok=True)
    zstd = ("-comp", "zstd", "-Xcompression-level", "12", "-b", "256K")
    quiet = ("-noappend", "-no-progress", "-quiet", "-mkfs-time", str(EPOCH), "-exports", "-xattrs")
    # mksquashfs takes the time from its options and refuses to be told twice
    run(["env", "-u", "SOURCE_DATE_EPOCH", "mksquashfs", root, out, *zstd, *quiet], thing="root image")
    size = -(-out.stat().st_size // _BLOCK) * _BLOCK
    with out.open("r+b") as stream:
        stream.truncate(size)
    said = run(
        [
            *("veritysetup", "format", "--salt", SALT, "--uuid", VERITY_UUID, "--hash", "sha256"),
            *("--data-blocks", str(size // _BLOCK), "--hash-offset", str(size), out, out),
        ],
        thing="verity of the root image",
    )
    root_hash = said.rpartition("Root hash:")[2].strip()
    if out.stat().st_size > board.root_mib * MIB:
        raise ImageUnusable(
            out.name,
            f"is larger than the {board.root_mib} MiB of a root partition",
            "Take packages out, or raise root_mib",
        )
    return Verity(root_hash, size)


def fat(out: Path, mib: int, files: dict[str, Path], serial: str) -> None:
    """A FAT image with files at its top or in folders, always the same bytes for the same files.

    Args:
        out: image to write.
        mib: its size in MiB.
        files: path in it, with ``/``, → file; a file keeps its time stamp.
        serial: the volume's, 8 hexadecimal digits.
    """
    out.unlink(missing_ok=True)
    with out.open("wb") as stream:
        stream.truncate(mib * MIB)
    run(["mkfs.vfat", "--invariant", "-i", serial, "-n", "LFR", out], thing=out.name)
    folders = {str(folder) for name in files for folder in PurePosixPath(name).parents} - {"."}
    with tempfile.TemporaryDirectory() as name:
        # mmd would stamp a folder with the time of day; one that is copied keeps its own
        tree = Path(name)
        for folder in sorted(folders):
            (tree / folder).mkdir()
        for file, source in files.items():
            shutil.copy2(source, tree / file)
        for folder in sorted(folders, reverse=True):
            os.utime(tree / folder, (EPOCH, EPOCH))
        for top in sorted({PurePosixPath(file).parts[0] for file in files}):
            run(["mcopy", "-s", "-m", "-i", out, tree / top, "::"], thing=f"{top} in {out.name}")


def boot_script(board: Board, scratch: Path) -> dict[str, Path]:
    """The boot loader's script and its first environment: slot A with three tries, slot B empty and with none."""
    source = scratch / "boot.cmd"
    source.write_text(_BOOT_SCRIPT.format(disk=board.disk, console=board.console, size=ENVIRONMENT_SIZE))
    compiled = scratch / "boot.scr"
    run(["mkimage", "-A", "arm64", "-T", "script", "-C", "none", "-d", source, compiled], thing="boot script")
    words = scratch / "environment.txt"
    words.write_text("BOOT_ORDER=A B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=0\n")
    environment = scratch / "uboot.env"
    run(["mkenvimage", "-s", hex(ENVIRONMENT_SIZE), "-o", environment, words], thing="boot environment")
    files = {"boot.scr": compiled, "uboot.env": environment}
    for name, text in board.boot_files.items():
        (scratch / name).write_text(text)
        files[name] = scratch / name
    for path in files.values():
        run(["touch", f"--date=@{EPOCH}", path], thing=path.name)
    return files


def state(out: Path, mib: int) -> None:
    """The empty state volume."""
    out.unlink(missing_ok=True)
    with out.open("wb") as stream:
        stream.truncate(mib * MIB)
    seed = ("-E", f"hash_seed={STATE_UUID},lazy_itable_init=0,lazy_journal_init=0")
    run(
        ["mkfs.ext4", "-q", "-U", STATE_UUID, "-L", "state", "-m", "0", *seed, out],
        thing="state volume",
        environment={"E2FSPROGS_FAKE_TIME": str(EPOCH)},
    )


def disk(board: Board, inputs: Path, out: Path, scratch: Path) -> None:
    """Lay the partitions out as one GPT disk image, sparse where nothing is.

    Args:
        board: the table.
        inputs: folder with the files that the table names.
        out: image to write.
        scratch: folder that may be emptied.
    """
    lines = [
        f'image {out.name} {{ hdimage {{ partition-table-type = "gpt"  align = 1M  disk-uuid = "{DISK_UUID}" }}',
    ]
    for part in board.partitions:
        source = f'image = "{part.source}"' if part.source else ""
        esp = _ESP if part.name in board.started_by_firmware else ""
        lines.append(f' partition {part.name} {{ partition-uuid = "{part.uuid}" size = {part.mib}M {source} {esp} }}')
    configuration = scratch / "genimage.cfg"
    configuration.write_text("\n".join(lines) + "\n}\n")
    for folder in ("root", "tmp"):
        shutil.rmtree(scratch / folder, ignore_errors=True)
    (scratch / "root").mkdir()
    run(
        [
            *("genimage", "--config", configuration, "--rootpath", scratch / "root", "--tmppath", scratch / "tmp"),
            *("--inputpath", inputs, "--outputpath", out.parent),
        ],
        thing="disk image",
    )


def offset_of(image: Path, name: str) -> int:
    """Where a partition begins on a disk image, in bytes."""
    table = json.loads(run(["sfdisk", "--json", image], thing=image.name))["partitiontable"]
    return int(next(entry["start"] for entry in table["partitions"] if entry["name"] == name)) * _SECTOR


def block_map(image: Path, out: Path) -> None:
    """Which blocks of an image hold anything, with their checksums: what ``bmaptool`` copies."""
    run(["bmaptool", "create", "-o", out, image], thing="block map")
    # bmaptool writes when it ran into a comment; the map itself does not depend on it
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(line for line in lines if "generated on" not in line.lower()))
