"""What scripts/test-image prepares once: authorities, images, a site with its broker, a deployment on a stick.

Images after the first differ from it in version and epoch only, which stand in the root: building one again with
everything else in the cache takes a minute or two.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from edge.vanroot.answer import REQUEST, REQUEST_CODE
from provisioning.broker import write_broker
from provisioning.demo.office import Office
from provisioning.image import build, debian, flash, keys, release, sign, verify
from provisioning.site import init_site
from provisioning.sources import Record, read_folder
from tests.image import qemu
from tests.sim.street import ENROLLED, walk

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("LFR_IMAGE_CACHE", REPOSITORY / ".cache" / "image"))
HOST = "10.0.2.2"
"""The machine that runs the emulator, as the van in it sees it."""
VAN = "van-7"
FPS = 8
"""Frames a second of the scene: enough that the newest is fresh, few enough that decoding costs little."""
ROUND_S = 10
"""Seconds in which both men have walked by."""
SPARE = 8 << 20
"""A card is never exactly as large as an image, bytes."""


def say(text: str) -> None:
    print(f"test-image: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Ring:
    """Authorities and signers."""

    folder: Path

    @property
    def keyring(self) -> Path:
        return self.folder / "keyring.pem"

    def signer(self, name: str = "release") -> sign.Signer:
        return sign.Signer(self.folder / f"{name}-signer/signer.crt", str(self.folder / f"{name}-signer/signer.key"))


def make_ring(folder: Path) -> Ring:
    """A release authority, a stranger's, and a development authority, with a signer each; kept over runs."""
    if not (folder / "keyring.pem").exists():
        shutil.rmtree(folder, ignore_errors=True)
        keys.make_authority(folder / "release", "release")
        keys.make_authority(folder / "stranger", "release", common="Somebody else's release authority")
        keys.make_authority(folder / "development", "development")
        for name in ("release", "stranger", "development"):
            keys.issue_signer(folder / name, f"{name} signer", folder / f"{name}-signer")
        keys.keyring([folder / "release"], folder / "keyring.pem")
    return Ring(folder)


def image(
    ring: Ring, version: str, epoch: int, *, accept_moved: bool, overlay: Path | None = None, name: str = ""
) -> Path:
    """A built, signed and verified image."""

    def made(out: Path) -> None:
        request = build.Request(
            board="qemu-arm64", version=version, epoch=epoch, keyring=ring.keyring, out=out, cache=CACHE,
            accept_moved=accept_moved, overlay=overlay,
        )  # fmt: skip
        build.build(request, REPOSITORY, say)
        sign.sign(out, ring.signer())

    return kept(name or f"{version}-{epoch}", ring, [version, str(epoch), overlay], made)


def kept(name: str, ring: Ring, decided_by: Sequence[str | bytes | Path | None], make: Callable[[Path], None]) -> Path:
    """An image as an earlier run of the same commit left it; made anew where there is none. Verified each time.

    Args:
        name: folder below the cache; one called ``again`` is always made anew.
        ring: whom it must be signed by.
        decided_by: what else decides its content; a path is an overlay.
        make: makes it, signed, in the folder that it is told.
    """
    out = CACHE / "images" / name
    parts = [part if isinstance(part, str | bytes) else _content(part) for part in decided_by]
    key = debian.key_of(build.commit_of(REPOSITORY), ring.keyring.read_bytes(), *parts)
    stamp = out.with_name(f"{out.name}.key")
    if (
        not name.endswith("again")
        and stamp.exists()
        and stamp.read_text() == key
        and not build.commit_of(REPOSITORY).endswith("-dirty")
    ):
        _say_what_moved(verify.verify(out, ring.keyring).release)
        return out
    say(f"image {name}")
    stamp.unlink(missing_ok=True)
    make(out)
    _say_what_moved(verify.verify(out, ring.keyring).release)
    stamp.write_text(key)
    return out


def _say_what_moved(record: release.Release) -> None:
    """An image that does not hold what the lock names is good enough to test with, and for nothing else."""
    for sentence in record.moved:
        say(f"WARNING: Debian has moved on: {sentence}")
    if record.moved:
        say("WARNING: renew the lock: lfr-provision image lock; review the difference and commit it")


def _content(overlay: Path | None) -> bytes:
    files = sorted(p for p in overlay.rglob("*") if p.is_file()) if overlay else []
    return b"".join(p.name.encode() + p.read_bytes() for p in files)


def flashed(folder: Path, ring: Ring, target: Path) -> flash.Flashed:
    """Flash an image to a loop device, as an engineer would to a card; the file behind it is then the van's disk."""
    target.unlink(missing_ok=True)
    with target.open("wb") as stream:
        stream.truncate(flash.size_needed(folder) + SPARE)
    with loop_device(target) as device:
        return flash.flash(folder, ring.keyring, device, serial=target.name, van=VAN, ledger=ledger_of(target))


def ledger_of(disk: Path) -> Path:
    """The engineer's ledger of the medium that became this disk."""
    return disk.with_suffix(".ledger")


@contextlib.contextmanager
def loop_device(backing: Path) -> Iterator[Path]:
    """A block device whose medium is a file; gone again at the end."""
    made = subprocess.run(["losetup", "--find", "--show", str(backing)], check=True, capture_output=True, text=True)
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


def make_site(folder: Path, port: int) -> Path:
    """A site whose broker is reached from inside the emulator."""
    init_site(folder, ("localhost", "127.0.0.1", HOST), port)
    write_broker(folder, port=port, user="root" if os.geteuid() == 0 else "mosquitto")
    return folder


def request_from(disk: Path, out: Path) -> Path:
    """Take the van's request from its medium, as the engineer does on the bench."""
    out.mkdir(parents=True, exist_ok=True)
    where = f"{disk}@@{qemu.part(disk, 'cfg').start}"
    for name in (*REQUEST, REQUEST_CODE):
        subprocess.run(
            ["mcopy", "-n", "-i", where, f"::enrol/{name}", str(out / name)], check=True, capture_output=True
        )
    return out


def answer_to(disk: Path, answer: Path) -> None:
    """Put the answer on the van's medium."""
    where = f"{disk}@@{qemu.part(disk, 'cfg').start}"
    subprocess.run(["mmd", "-D", "s", "-i", where, "::enrol"], check=False, capture_output=True)  # it may be there
    for path in sorted(answer.iterdir()):
        subprocess.run(["mcopy", "-o", "-i", where, str(path), f"::enrol/{path.name}"], check=True, capture_output=True)


def office(folder: Path, deployment: str) -> Office:
    """Those who sign lists and authorities."""
    return Office(folder, deployment, VAN)


def deployment_stick(made: Office, recipient: str, out: Path, scratch: Path, *, rounds: int = 1) -> Path:
    """A medium with a deployment: one man on the list, and a video instead of a camera: another man, then him.

    A round takes :data:`ROUND_S`.
    """
    made.encrypt_to(recipient)
    record = Record(category="wanted on warrant", lawful_basis="test", image_source="official portrait")
    made.build_list(read_folder(ENROLLED, record))
    made.authorise(starts_in_s=1, hours=6)
    made.publish()
    scratch.mkdir(parents=True, exist_ok=True)
    passers = ["biden.jpg", "obama2.jpg"] * rounds
    walk(scratch / "street.mp4", passers, frames=(ROUND_S // 2 - 1) * FPS, empty=FPS, fps=FPS)
    content = {
        "deployment": {"id": made.deployment, "place": "a street"},
        "camera": {"source": "street.mp4", "pace": "live"},
        "models": {"detector": "centerface:640x384-int8", "threads": 1},
        # three frames a second here: a passage is one from its first look, and lives from one look to the next
        "track": {"confirm_frames": 1, "patience_ms": 1000},
    }
    (scratch / "lfr.toml").write_text(tomli_w.dumps(content))
    files = [scratch / "lfr.toml", scratch / "street.mp4", made.folder / "repository"]
    return qemu.stick(out, "LFR-DEPLOY", files)
