"""LFR Edge and its Python packages as the van runs them: built by Dockerfile.arm64, taken out as one folder."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from provisioning.image import lock
from provisioning.image.debian import key_of
from provisioning.image.tools import ImageUnusable, ToolFailed, require, run, sha256_file

__all__ = ["buildah", "container", "context", "software", "sources", "wheelhouse"]

_TREES = (
    *("edge", "models", "Dockerfile.arm64", "provisioning/image/rootfs/usr/bin/lfr-edge"),
    *("provisioning/image/requirements-arm64.lock", "provisioning/image/requirements-arm64-source.lock"),
)


def sources(repository: Path) -> list[Path]:
    """Tracked files of the trees that the image is made of, sorted, relative to the repository.

    Raises:
        ImageUnusable: this is no checkout.
    """
    listing = subprocess.run(
        ["git", "-C", str(repository), "ls-files", "-z", "--", *_TREES], capture_output=True, check=False
    )
    names = sorted(name for name in listing.stdout.decode().split("\0") if name)
    if listing.returncode != 0 or not names:
        raise ImageUnusable(str(repository), "is not a git checkout of LFR Edge", "Run image build in a clone")
    return [Path(name) for name in names if _belongs(name) and (repository / name).exists()]


def _belongs(name: str) -> bool:
    if name.startswith("models/"):
        return name.endswith((".toml", ".tflite")) and name.count("/") == 2
    return True


def wheelhouse(cache: Path) -> Path:
    """Every locked wheel and source, fetched by hash into the cache."""
    texts = [lock.WHEEL_LOCK.read_text(), lock.SOURCE_LOCK.read_text()]
    folder = cache / f"wheelhouse-{key_of(*texts)}"
    if folder.exists():
        return folder
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    common = ("download", "--quiet", "--no-deps", "--require-hashes", f"--dest={part}")
    lines = [line for line in texts[1].splitlines() if line and not line.startswith("#")]
    sources_only = [line for line in lines if line.startswith(lock.BUILT_HERE)]
    tools = [line for line in lines if line not in sources_only]
    for name, content in (("tools", tools), ("sources", sources_only)):
        (part / f"{name}.txt").write_text("\n".join(content) + "\n")
    for_van = [*lock.platform_arguments(), "--only-binary=:all:"]
    lock.pip(*common, *for_van, "-r", str(lock.WHEEL_LOCK), thing="wheels for aarch64")
    lock.pip(*common, *for_van, "-r", str(part / "tools.txt"), thing="build tools for aarch64")
    names = ",".join(lock.BUILT_HERE)
    lock.pip(*common, f"--no-binary={names}", "-r", str(part / "sources.txt"), thing="sources without a wheel")
    part.rename(folder)
    return folder


def context(repository: Path, cache: Path, folder: Path) -> Path:
    """The build context: tracked files and the wheels, nothing else of the checkout."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in sources(repository):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, folder / name)
    shutil.copytree(wheelhouse(cache), folder / "wheelhouse")
    return folder


@functools.cache
def driver(cache: Path) -> str:
    """How buildah keeps what a step changes: the difference only where the kernel lets it, else a whole copy a step.

    The base is 700 MB and Dockerfile.arm64 has a dozen steps: with copies, one build asks for tens of gigabytes.
    """
    try:
        run(["buildah", *storage(cache, "overlay"), "images"], thing="container storage")
    except ToolFailed:
        return "vfs"
    return "overlay"


def storage(cache: Path, name: str) -> tuple[str | Path, ...]:
    """Where buildah keeps images under one storage driver; two drivers never share a folder."""
    folder = cache / f"containers-{name}"
    return ("--storage-driver", name, "--root", folder, "--runroot", folder.with_name(f"{folder.name}-run"))


def buildah(cache: Path, *arguments: str | Path, thing: str) -> str:
    """Run buildah with its storage in the cache."""
    return run(["buildah", *storage(cache, driver(cache)), *arguments], thing=thing)


def container(repository: Path, cache: Path, base: Path, say: Callable[[str], None]) -> str:
    """Build Dockerfile.arm64 on a base; returns the container image's name in the cache's storage.

    Args:
        repository: the checkout.
        cache: for storage and the context.
        base: archive of the Debian root file system.
        say: told what is being waited for.
    """
    require("buildah")
    cache = cache.resolve()
    base_name = f"localhost/lfr-base:{base.stem.removeprefix('debian-')}"
    stamps = [f"{name}:{sha256_file(repository / name)}" for name in sources(repository)]
    name = f"localhost/lfr-edge:{key_of(base_name, *stamps)}"
    existing = buildah(cache, "images", "--format", "{{.Name}}:{{.Tag}}", thing="container images")
    if name in existing.split():
        return name
    if base_name not in existing.split():
        working = buildah(cache, "from", "--arch", "arm64", "scratch", thing="empty container").strip()
        buildah(cache, "add", working, base, "/", thing="base container")
        buildah(cache, "commit", "--rm", working, base_name, thing="base container")
    say("LFR Edge for aarch64, in a container: about 6 minutes the first time")
    place = context(repository, cache, cache / "context")
    layers = "--layers" if driver(cache) == "overlay" else "--layers=false"
    buildah(
        cache,
        *("bud", "--quiet", layers, "--isolation", "chroot", "--arch", "arm64", "--pull-never"),
        *("--build-arg", f"BASE={base_name}", "--build-arg", "PIP_NO_INDEX=1"),
        *("-f", place / "Dockerfile.arm64", "-t", name, place),
        thing="Dockerfile.arm64",
    )
    return name


def software(repository: Path, cache: Path, base: Path, root: Path, say: Callable[[str], None]) -> None:
    """Put what the container holds under ``/opt/lfr`` into the image's root: the same bytes in both."""
    name = container(repository, cache, base, say)
    cache = cache.resolve()
    working = buildah(cache, "from", "--arch", "arm64", "--pull-never", name, thing=name).strip()
    try:
        mounted = Path(buildah(cache, "mount", working, thing=name).strip())
        shutil.copytree(mounted / "opt/lfr", root / "opt/lfr", symlinks=True)
    finally:
        buildah(cache, "rm", working, thing=name)
