"""Locks, bills of materials, module order, keys and signatures: what needs no image to be shown."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.errors import KeyUnusable, SignatureInvalid
from provisioning.image import build, debian, kernel, keys, lock, release, sbom, sign, verify
from provisioning.image.board import BOARDS, board
from provisioning.image.tools import ImageRefused, ImageUnusable, sha256_file


def test_every_difference_from_the_lock_is_named() -> None:
    assert lock.compare({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == [
        "b is 2, the lock says 1",
        "c 1 is locked and was not installed",
        "d 1 was installed and is not locked",
    ]


def test_a_lock_reads_back_as_it_was_written() -> None:
    assert lock.parse_debian(lock.format_debian({"b": "1:2-3+deb12u1", "a": "1"})) == {"a": "1", "b": "1:2-3+deb12u1"}


@pytest.mark.parametrize("text", ["a", "a 1 2", "a 1\na 2"])
def test_a_lock_line_that_is_not_one_name_and_one_version_is_refused(text: str) -> None:
    with pytest.raises(ImageUnusable, match="Debian lock"):
        lock.parse_debian(text)


def test_the_shipped_locks_are_whole() -> None:
    packages = lock.parse_debian(lock.DEBIAN_LOCK.read_text())
    assert {"systemd", "rauc", "python3"} <= packages.keys()
    assert any(name.startswith("linux-image-") for name in packages)
    wheels = {pin.name for pin in lock.parse_requirements(lock.WHEEL_LOCK.read_text())}
    sources = {pin.name for pin in lock.parse_requirements(lock.SOURCE_LOCK.read_text())}
    assert set(lock.BUILT_HERE) <= sources
    assert not wheels & set(lock.BUILT_HERE)


def test_every_requirement_of_the_service_is_locked() -> None:
    import configparser
    import re

    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[2] / "setup.cfg", encoding="utf-8")
    wanted = {re.split(r"[<>=!~ ]", w.strip())[0].lower() for w in setup["options"]["install_requires"].splitlines()}
    pins = lock.WHEEL_LOCK.read_text() + lock.SOURCE_LOCK.read_text()
    assert {w for w in wanted if w} <= {pin.name for pin in lock.parse_requirements(pins)}


@pytest.mark.parametrize("line", ["numpy==1.26", "numpy>=1 --hash=sha256:" + "0" * 64, "numpy==1 --hash=sha256:00"])
def test_a_wheel_without_one_version_and_one_hash_is_refused(line: str) -> None:
    with pytest.raises(ImageUnusable, match="wheel lock"):
        lock.parse_requirements(line)


STATUS = """Package: libc6
Status: install ok installed
Architecture: arm64
Source: glibc
Version: 2.36-9+deb12u13

Package: gone
Status: deinstall ok config-files
Architecture: arm64
Version: 1
"""


def test_only_installed_packages_count() -> None:
    assert debian.installed(STATUS) == (debian.Installed("libc6", "2.36-9+deb12u13", "arm64", "glibc"),)


def _site(folder: Path, **found: str) -> Path:
    for name, version in found.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\ntext")
    return folder


def test_the_bill_of_materials_names_every_package_and_wheel_and_is_the_same_twice(tmp_path: Path) -> None:
    site = _site(tmp_path / "site", Some_Wheel="1.0")
    pins = [lock.Pin("some-wheel", "1.0", "ab" * 32)]
    packages = debian.installed(STATUS)
    texts = {
        sbom.bill(version="1", commit="c", packages=packages, site=site, pins=pins, models={"m": "cd" * 32})
        for _ in "12"
    }
    assert len(texts) == 1
    (tmp_path / "sbom.json").write_text(texts.pop())
    document = sbom.read(tmp_path / "sbom.json")
    assert sbom.names(document, "deb") == {"libc6": "2.36-9+deb12u13"}
    assert sbom.names(document, "pypi") == {"some-wheel": "1.0"}
    assert next(c for c in document["components"] if c["name"] == "some-wheel")["hashes"][0]["content"] == "ab" * 32


def test_a_wheel_that_is_in_no_lock_stops_the_build(tmp_path: Path) -> None:
    site = _site(tmp_path, stranger="6.6")
    with pytest.raises(ImageUnusable, match="stranger"):
        sbom.bill(version="1", commit="c", packages=[], site=site, pins=[], models={})


DEP = """kernel/a/far.ko:
kernel/b/mid-dle.ko: kernel/a/far.ko
kernel/c/near.ko: kernel/b/mid-dle.ko kernel/a/far.ko
kernel/d/other.ko:
"""


def test_modules_are_loaded_after_what_they_need_and_no_others_come_along() -> None:
    order, absent = kernel.module_closure(DEP, ["near", "mid_dle", "nosuch"])
    assert order == ["kernel/a/far.ko", "kernel/b/mid-dle.ko", "kernel/c/near.ko"]
    assert absent == ["nosuch"]


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_two_slots_of_the_same_size_and_its_own_name(name: str) -> None:
    size = {p.name: p.mib for p in board(name).partitions}
    assert size["rootA"] == size["rootB"]
    assert size["bootA"] == size["bootB"]
    assert board(name).compatible.endswith(name)
    assert bool(board(name).untested) == (name != "qemu-arm64")


def test_a_board_nobody_described_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ImageUnusable, match="raspberrypi5"):
        board("toaster")


@pytest.mark.parametrize("changed", [{"version": "one"}, {"epoch": 64}, {"epoch": -1}, {"board": "toaster"}])
def test_a_release_that_could_not_be_ordered_is_never_made(changed: dict[str, object]) -> None:
    good: dict[str, object] = {"version": "1.0", "epoch": 0, "board": "qemu-arm64", "compatible": "x", "commit": "c"}
    with pytest.raises(ImageUnusable):
        release.Release(**{**good, **changed})  # type: ignore[arg-type]


# -- keys and signatures, with the real tools ----------------------------------------------------


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, a signer of each, and the production keyring."""
    folder = tmp_path_factory.mktemp("keys")
    for kind in ("release", "development"):
        keys.make_authority(folder / kind, "release" if kind == "release" else "development")
        keys.issue_signer(folder / kind, f"{kind} signer", folder / f"{kind}-signer")
    keys.keyring([folder / "release"], folder / "keyring.pem")
    return folder


def signer(ring: Path, name: str = "release-signer") -> sign.Signer:
    return sign.Signer(ring / name / "signer.crt", str(ring / name / "signer.key"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder as image build leaves it, with small files."""
    if not build_tools():
        pytest.skip("rauc and squashfs-tools are not installed: scripts/setup-image")
    folder = tmp_path / "image"
    (folder / "bundle").mkdir(parents=True)
    for name in ("disk.img", "disk.bmap", "sbom.cdx.json", "bundle/rootfs.img", "bundle/boot.img"):
        (folder / name).write_bytes(random.Random(name).randbytes(40_000))
    own = release.Release("1.2.3", 1, "qemu-arm64", "lfr-edge-qemu-arm64", "c")
    build._bundle_content_text(folder / "bundle", own, board("qemu-arm64"))
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    digests = {str(n): sha256_file(folder / n) for n in names}
    release.write(
        release.Release("1.2.3", 1, "qemu-arm64", "lfr-edge-qemu-arm64", "c", digests=digests), folder / "release.json"
    )
    return folder


def build_tools() -> bool:
    return all(shutil.which(t, path="/usr/bin:/usr/sbin") for t in ("rauc", "mksquashfs", "openssl"))


def test_a_signed_image_verifies_and_says_who_signed(image: Path, ring: Path) -> None:
    sign.sign(image, signer(ring))
    done = verify.verify(image, ring / "keyring.pem")
    assert "release signer" in done.signer
    assert done.files == 6


def test_the_production_keyring_does_not_trust_the_development_authority(image: Path, ring: Path) -> None:
    sign.sign(image, signer(ring, "development-signer"))
    with pytest.raises(SignatureInvalid, match="does not trust"):
        verify.verify(image, ring / "keyring.pem")
    with pytest.raises(ImageRefused, match="development"):
        keys.keyring([ring / "release", ring / "development"], ring / "mixed.pem")
    keys.keyring([ring / "release", ring / "development"], ring / "bench.pem", development=True)
    with pytest.raises(ImageRefused, match="development"):
        keys.check_keyring(ring / "bench.pem")
    assert verify.verify(image, ring / "bench.pem").release.version == "1.2.3"


@pytest.mark.parametrize("name", ["disk.img", "disk.bmap", "sbom.cdx.json"])
def test_one_flipped_byte_beside_the_bundle_is_found(image: Path, ring: Path, name: str) -> None:
    sign.sign(image, signer(ring))
    flip(image / name, 4000)
    with pytest.raises(ImageRefused, match=name):
        verify.verify(image, ring / "keyring.pem")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_one_flipped_byte_of_the_bundles_payload_is_found_although_rauc_info_passes_it(image: Path, ring: Path) -> None:
    bundle = sign.sign(image, signer(ring))
    flip(bundle, 300)
    info = ["rauc", f"--conf={sign.configuration(ring / 'keyring.pem', image)}", "info", str(bundle)]
    assert subprocess.run(info, capture_output=True, check=False).returncode == 0
    with pytest.raises((SignatureInvalid, ImageRefused)):
        verify.verify(image, ring / "keyring.pem")


def test_a_bundle_cut_short_is_found(image: Path, ring: Path) -> None:
    bundle = sign.sign(image, signer(ring))
    bundle.write_bytes(bundle.read_bytes()[:-2000])
    with pytest.raises(SignatureInvalid):
        verify.verify(image, ring / "keyring.pem")


def test_a_changed_record_is_found(image: Path, ring: Path) -> None:
    sign.sign(image, signer(ring))
    record = json.loads((image / "release.json").read_text())
    record["epoch"] = 9
    (image / "release.json").write_text(json.dumps(record))
    with pytest.raises(SignatureInvalid, match="does not belong to this file"):
        verify.verify(image, ring / "keyring.pem")


def test_an_image_without_a_signature_is_refused(image: Path, ring: Path) -> None:
    with pytest.raises(SignatureInvalid, match="is not signed"):
        verify.verify(image, ring / "keyring.pem")


def test_nothing_is_signed_that_is_not_what_was_built(image: Path, ring: Path) -> None:
    flip(image / "bundle/rootfs.img", 10)
    with pytest.raises(ImageUnusable, match="was built"):
        sign.sign(image, signer(ring))


def test_a_revoked_signer_is_refused_and_a_new_one_takes_over(image: Path, tmp_path: Path) -> None:
    keys.make_authority(tmp_path / "ca", "release")
    for name in ("old", "new"):
        keys.issue_signer(tmp_path / "ca", name, tmp_path / name)
    old, new = (sign.Signer(tmp_path / n / "signer.crt", str(tmp_path / n / "signer.key")) for n in ("old", "new"))
    keys.keyring([tmp_path / "ca"], tmp_path / "before.pem")
    bundle = sign.sign(image, old)
    sign.resign(bundle, tmp_path / "before.pem", new, tmp_path / "again.raucb")
    assert keys.revoke(tmp_path / "ca", tmp_path / "old" / "signer.crt") == 1
    keys.keyring([tmp_path / "ca"], tmp_path / "after.pem")
    with pytest.raises(SignatureInvalid, match="revoked"):
        verify.verify(image, tmp_path / "after.pem")
    inside = {
        n.removeprefix("bundle/"): d for n, d in release.read(image / "release.json").digests.items() if "bundle/" in n
    }
    inside.pop("manifest.raucm")
    assert verify.verify_bundle(
        tmp_path / "again.raucb", tmp_path / "after.pem", inside, release.read(image / "release.json")
    )


def test_a_van_trusts_old_and_new_authority_while_they_change_over(image: Path, ring: Path, tmp_path: Path) -> None:
    keys.make_authority(tmp_path / "next", "release", common="LFR Edge release authority, the next")
    keys.issue_signer(tmp_path / "next", "next signer", tmp_path / "signer")
    sign.sign(image, sign.Signer(tmp_path / "signer/signer.crt", str(tmp_path / "signer/signer.key")))
    with pytest.raises(SignatureInvalid):
        verify.verify(image, ring / "keyring.pem")
    keys.keyring([ring / "release", tmp_path / "next"], tmp_path / "both.pem")
    assert "next signer" in verify.verify(image, tmp_path / "both.pem").signer


def test_an_authority_is_never_replaced_and_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    keys.make_authority(tmp_path / "ca", "release", passphrase=b"long enough")
    with pytest.raises(KeyUnusable, match="already"):
        keys.make_authority(tmp_path / "ca", "release")
    with pytest.raises(KeyUnusable, match="passphrase"):
        keys.issue_signer(tmp_path / "ca", "s", tmp_path / "s", passphrase=b"wrong")
    keys.issue_signer(tmp_path / "ca", "s", tmp_path / "s", passphrase=b"long enough")


def test_a_keyring_without_its_revocation_list_is_refused(ring: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.pem").write_bytes((ring / "release/ca.crt").read_bytes())
    with pytest.raises(KeyUnusable, match="revocation list"):
        keys.check_keyring(tmp_path / "bare.pem")


def test_a_key_in_a_token_signs_and_never_leaves_it(
    image: Path, ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Path("/usr/lib/softhsm/libsofthsm2.so")
    if not module.exists() or shutil.which("pkcs11-tool") is None:
        pytest.skip("softhsm2 and opensc are not installed: scripts/setup-image")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    monkeypatch.setenv("PKCS11_MODULE_PATH", str(module))
    monkeypatch.setenv("RAUC_PKCS11_MODULE", str(module))
    init = ["softhsm2-util", "--init-token", "--free", "--label", "release", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(init, check=True, capture_output=True)
    make = ["pkcs11-tool", "--module", str(module), "--token-label", "release", "--login", "--pin", "1234"]
    subprocess.run(
        [*make, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "signer"],
        check=True,
        capture_output=True,
    )
    uri = "pkcs11:token=release;object=signer;type=private?pin-value=1234"
    request = keys.request_from_token(uri, "Release signer in a token")
    keys.issue_signer(ring / "release", "Release signer in a token", tmp_path / "token", request=request)
    assert not (tmp_path / "token" / "signer.key").exists()
    in_token = sign.Signer(tmp_path / "token" / "signer.crt", uri)
    assert "1234" not in repr(in_token)
    sign.sign(image, in_token)
    assert "in a token" in verify.verify(image, ring / "keyring.pem").signer
