"""Dockerfile.arm64 on a base made by mmdebstrap, run as it is meant to run: every part of a van, tried in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.image import debian, lock, wheels
from tests.broker import Site, make_site
from tests.image import qemu
from tests.image.bench import CACHE, REPOSITORY, say
from tests.van_process import Van, office, van  # noqa: F401 - fixtures

pytestmark = [
    pytest.mark.skipif(os.environ.get("LFR_IMAGE_TESTS") != "1", reason="builds a container: scripts/test-image"),
    pytest.mark.timeout(1500),
]
SERVICE = 990
"""User and group of the service, as Dockerfile.arm64 makes them."""
PROCESSOR = """\
processor\t: {number}
BogoMIPS\t: 48.00
Features\t: fp asimd evtstrm crc32 atomics fphp asimdhp asimdrdm asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
"""What an Arm kernel says of a Cortex-A76. An emulator of single programs shows them the machine's own /proc/cpuinfo,
which the models' runtime then takes for an Arm processor's, and crashes on."""


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """A working container of the image that the van's software comes from."""
    CACHE.mkdir(parents=True, exist_ok=True)
    locked = lock.parse_debian(lock.DEBIAN_LOCK.read_text())
    moved = os.environ.get("LFR_ACCEPT_MOVED") == "1"
    base = debian.bootstrap(CACHE, mirror=debian.Mirror(), locked=locked, accept_moved=moved, say=say)
    name = wheels.container(REPOSITORY, CACHE, base.archive, say)
    working = wheels.buildah(CACHE, "from", "--arch", "arm64", "--pull-never", name, thing=name).strip()
    yield working
    wheels.buildah(CACHE, "rm", working, thing=working)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path / "site")
    made.start_broker()
    yield made
    made.stop_broker()


def inside(container: str, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the container as its service user; ``folder`` is ``/van`` there.

    With mounts of its own, which end with it. ``buildah run`` lets nothing be put over ``/proc/cpuinfo``.
    """
    root = wheels.buildah(CACHE, "mount", container, thing=container).strip()
    processors = folder.parent / "cpuinfo"
    processors.write_text("".join(PROCESSOR.format(number=n) for n in range(os.cpu_count() or 1)))
    script = (
        f"mount -t proc proc {root}/proc && mount --bind {processors} {root}/proc/cpuinfo && "
        f"mount -t sysfs sysfs {root}/sys && mount --rbind /dev {root}/dev && "
        f"mkdir -p {root}/van && mount --bind {folder} {root}/van && "
        f'exec chroot --userspec={SERVICE}:{SERVICE} {root} "$@"'
    )
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/van", "QEMU_CPU": qemu.PROCESSOR},
    )


def test_it_starts_as_the_service_user_and_nothing_in_it_can_compile_or_install(container: str) -> None:
    told = json.loads(wheels.buildah(CACHE, "inspect", container, thing=container))["OCIv1"]["config"]
    assert (told["User"], told["Entrypoint"]) == ("lfr", ["/usr/bin/lfr-edge"])
    run = ("run", "--isolation", "chroot", container, "--", "sh", "-c")
    said = wheels.buildah(CACHE, *run, "id -u; uname -m; command -v gcc cc c++ make pip pip3; true", thing=container)
    assert said.split() == [str(SERVICE), "aarch64"]


def test_every_part_of_a_van_passes_its_self_test_in_the_container(container: str, van: Van) -> None:
    van.content["alert"]["host"] = "127.0.0.1"
    van.fetches().watches("biden.jpg")
    for path in (van.folder, *van.folder.rglob("*")):
        shutil.chown(path, SERVICE, SERVICE)
    done = inside(container, van.folder, "/usr/bin/lfr-edge", "self-test", "--config", "/van/lfr.toml", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert list(checks) == ["memory", "models", "deployment", "keys", "broker", "camera"]
    assert all(check["good"] for check in checks.values()), checks
