"""``lfr-provision image …``: keys, build, sign, verify, flash, enrol."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.commandline import AsJson, commands, show
from edge.errors import BadInput
from provisioning.image import cli_flash

__all__ = ["app"]

app = commands("Build, sign, verify and flash what a van boots.")
key_app = commands("Who may sign images: see docs/key-ceremony.md.")
app.add_typer(key_app, name="key")
app.command()(cli_flash.flash)
app.command()(cli_flash.ledger)

Json = Annotated[bool, AsJson]
Folder = Annotated[Path, typer.Argument(help="the image's folder")]
Keyring = Annotated[Path, typer.Option("--keyring", help="whom to trust: made by image key keyring")]
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="file with the authority key's passphrase")
]


def _say(text: str) -> None:
    print(f"image: {text}", file=sys.stderr, flush=True)


def _passphrase(path: Path | None) -> bytes | None:
    if path is None:
        return None
    found = _content(path).strip()
    if not found:
        raise BadInput(str(path), "is empty", "Write the passphrase into it, or leave the option out to be asked")
    return found


def _passphrase_of(authority: Path, path: Path | None) -> bytes | None:
    """The passphrase of an authority's key: from the file, or asked for where the key has one."""
    from provisioning.image import keys

    if path is not None or not keys.is_protected(authority):
        return _passphrase(path)
    return str(typer.prompt(f"Passphrase of the key in {authority}", hide_input=True, err=True)).encode()


def _content(path: Path) -> bytes:
    """What a file holds.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "Check the path") from None


def _repository() -> Path:
    return Path(__file__).resolve().parents[2]


@app.command()
def lock(
    cache: Annotated[Path, typer.Option(help="folder for what may be used again")] = Path(".cache/image"),
    mirror: Annotated[str, typer.Option(help="Debian archive or snapshot")] = "http://deb.debian.org",
    as_json: Json = False,
) -> None:
    """Choose packages anew and write the locks of the image, the control room and the office; review the difference."""
    from provisioning.image import debian
    from provisioning.image import lock as locks
    from provisioning.image.board import BOARDS

    wheels, sources = locks.resolve_wheels(_repository())
    locks.WHEEL_LOCK.write_text(wheels)
    locks.SOURCE_LOCK.write_text(sources)
    for_pc = locks.resolve_wheels(_repository(), "x86_64", "office")
    for file, text in zip((locks.PC_WHEEL_LOCK, locks.PC_SOURCE_LOCK), for_pc, strict=True):
        file.write_text(text)
    place = debian.Mirror(mirror)
    fresh = cache.resolve() / "lock"
    fresh.mkdir(parents=True, exist_ok=True)
    for old in fresh.glob("debian-*.tar"):
        old.unlink()
    root = debian.bootstrap(fresh, mirror=place, locked={}, accept_moved=False, say=_say)
    kernels = {b.kernel for b in BOARDS.values() if b.kernel}
    beside = {name for b in BOARDS.values() for name in b.side}
    side = debian.download(fresh, (*sorted(kernels), "busybox-static", *sorted(beside)), mirror=place)
    versions = {p.name: p.version for p in [*root.packages, *(debian.identity(d) for d in side.values())]}
    locks.DEBIAN_LOCK.write_text(locks.format_debian(versions))
    count = len(locks.parse_requirements(wheels))
    lines = [f"{len(versions)} Debian packages, {count} wheels are locked."]
    show({"debian": len(versions), "wheels": count}, lines, as_json=as_json)


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="folder for the image; emptied first")],
    version: Annotated[str, typer.Option(help="numbers and dots, such as 1.4.0")],
    keyring: Annotated[Path, typer.Option(help="authorities that vans of this image trust")],
    epoch: Annotated[int, typer.Option(min=0, max=63, help="security epoch; raise it to outlaw older images")] = 0,
    board: Annotated[str, typer.Option(help="qemu-arm64, arm64-uefi, raspberrypi5 or jetson-orin")] = "qemu-arm64",
    cache: Annotated[Path, typer.Option(help="folder for what may be used again")] = Path(".cache/image"),
    mirror: Annotated[str, typer.Option(help="Debian archive or snapshot")] = "http://deb.debian.org",
    kernel_deb: Annotated[Path | None, typer.Option(help="the board maker's kernel package")] = None,
    accept_moved: Annotated[bool, typer.Option(help="build although Debian has moved on from the lock")] = False,
    development: Annotated[bool, typer.Option(help="the keyring may trust a development authority")] = False,
    as_json: Json = False,
) -> None:
    """Build an image from the locks and the commit: disk image, update content, bill of materials, release record."""
    from provisioning.image import build as builds
    from provisioning.image import debian

    request = builds.Request(
        board=board, version=version, epoch=epoch, keyring=keyring, out=out, cache=cache,
        mirror=debian.Mirror(mirror), accept_moved=accept_moved, development=development, kernel_deb=kernel_deb,
    )  # fmt: skip
    done = builds.build(request, _repository(), _say)
    if as_json:
        print(done.release.text)
        return
    record = done.release
    typer.echo(f"{out}: version {record.version}, epoch {record.epoch}, {record.board}, commit {record.commit}")
    typer.echo(f"disk image {record.digests['disk.img']}")
    for sentence in (*record.moved, *done.untested):
        typer.echo(f"note: {sentence}")


@app.command()
def sign(
    folder: Folder,
    certificate: Annotated[Path, typer.Option(help="the signer's certificate")],
    key: Annotated[str, typer.Option(help="its key: a file, or a pkcs11: URI")],
    secure_boot_certificate: Annotated[
        Path | None, typer.Option(help="db.crt of image key secure-boot, for a board with UEFI")
    ] = None,
    secure_boot_key: Annotated[str, typer.Option(help="its key: a file, or a pkcs11: URI")] = "",
    as_json: Json = False,
) -> None:
    """Sign an image: its kernel where firmware checks it, its release record, and the update made of its content."""
    from provisioning.image import sign as signs

    if bool(secure_boot_certificate) != bool(secure_boot_key):
        raise typer.BadParameter("say --secure-boot-certificate and --secure-boot-key together, or neither")
    for_firmware = signs.Signer(secure_boot_certificate, secure_boot_key) if secure_boot_certificate else None
    bundle = signs.sign(folder, signs.Signer(certificate, key), for_firmware)
    typer.echo(
        json.dumps({"bundle": str(bundle)}) if as_json else f"{bundle} is signed. Next: lfr-provision image verify"
    )


@app.command()
def resign(
    bundle: Annotated[Path, typer.Argument(help="a signed update")],
    keyring: Keyring,
    certificate: Annotated[Path, typer.Option(help="the new signer's certificate")],
    key: Annotated[str, typer.Option(help="its key: a file, or a pkcs11: URI")],
    out: Annotated[Path, typer.Option(help="new file")],
    as_json: Json = False,
) -> None:
    """Give an update a new signature, after checking the old one."""
    from provisioning.image import sign as signs

    signs.resign(bundle, keyring, signs.Signer(certificate, key), out)
    show({"bundle": str(out)}, [f"{out} is signed."], as_json=as_json)


@app.command()
def verify(folder: Folder, keyring: Keyring, as_json: Json = False) -> None:
    """Check signature and every byte. Exit 0 good, 3 refused, 4 incomplete."""
    from provisioning.image import verify as verifies

    done = verifies.verify(folder, keyring)
    if as_json:
        kernel = asdict(done.kernel) if done.kernel else None
        content = {"release": asdict(done.release), "signer": done.signer, "files": done.files, "kernel": kernel}
        print(json.dumps(content))
        return
    record = done.release
    typer.echo(f"Good: version {record.version}, epoch {record.epoch}, {record.board}, signed by {done.signer}.")
    typer.echo(f"{done.files} files compared byte for byte.")
    if done.kernel:
        typer.echo(f"The kernel image is signed by {done.kernel.signer}; firmware must hold that certificate in db.")
        typer.echo(f"Signed with it: {done.kernel.command_line}")


@app.command()
def enrol(
    van: Annotated[str, typer.Argument(help="the van's name")],
    request: Annotated[Path, typer.Option(help="enrol/ as copied from the van's medium")],
    site: Annotated[Path, typer.Option(help="the site's folder, made by init")],
    root: Annotated[Path, typer.Option(help="root.json of the repository of lists and authorities")],
    revokers: Annotated[Path, typer.Option(help="JWK Set of those who may revoke an entry")],
    out: Annotated[Path, typer.Option(help="folder for the answer")],
    broker: Annotated[str, typer.Option(help="HOST:PORT of the control room's broker, as the van reaches it")],
    fixed: Annotated[
        tuple[float, float] | None, typer.Option(help="latitude and longitude in degrees of a site that does not move")
    ] = None,
    gpsd: Annotated[str, typer.Option(help="HOST:PORT of the satellite receiver's gpsd, for a van that moves")] = "",
    ledger: Annotated[Path, typer.Option(help="the ledger that flash wrote; it gets a line")] = Path(
        "flash-ledger.jsonl"
    ),
    as_json: Json = False,
) -> None:
    """Answer a van's request with a certificate for 90 days; the van's keys stay on it.

    The van is told here, and nowhere else, whom to believe, which broker to call and how it knows where it is.
    """
    from edge.vanroot.answer import Settings
    from provisioning.image import enrol as enrols
    from provisioning.image import ledger as ledgers

    host, _, port = broker.rpartition(":")
    if not port.isdecimal():
        raise typer.BadParameter("say HOST:PORT", param_hint="--broker")
    settings = Settings(van, host, int(port), fixed, gpsd)
    secret = enrols.secret_of(van, ledger)
    done = enrols.answer(settings, request, site, out, root=root, revokers=revokers, secret=secret)
    content = {**asdict(done), "expires": done.expires.isoformat()}
    ledgers.append(ledger, {"at": datetime.now(UTC).isoformat(timespec="seconds"), "enrolled": content})
    typer.echo(
        json.dumps(content)
        if as_json
        else f"Copy {out}/* into enrol/ on {van}'s medium; valid to {done.expires:%Y-%m-%d}."
    )


@key_app.command("authority")
def key_authority(
    folder: Annotated[Path, typer.Argument(help="new folder")],
    kind: Annotated[str, typer.Option(help="release or development")],
    name: Annotated[str, typer.Option(help="the authority's name")] = "",
    passphrase_file: PassphraseFile = None,
    unprotected: Annotated[
        bool, typer.Option("--unprotected", help="no passphrase: for a bench, never for vans that go out")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make an authority. The release authority: offline, with a passphrase, and the medium locked away.

    Without --passphrase-file the release authority's passphrase is asked for, twice.
    """
    from provisioning.image import keys

    if kind not in {"release", "development"}:
        raise typer.BadParameter("say release or development")
    passphrase = _passphrase(passphrase_file)
    if kind == "release" and passphrase is None and not unprotected:
        words = f"A passphrase for the key in {folder}"
        passphrase = str(typer.prompt(words, hide_input=True, confirmation_prompt=True, err=True)).encode()
    made = keys.make_authority(
        folder, "release" if kind == "release" else "development", common=name, passphrase=passphrase
    )
    lines = [f"{made} may be copied; {folder}/ca.key must not leave this medium."]
    show({"certificate": str(made), "key": f"{folder}/ca.key"}, lines, as_json=as_json)


@key_app.command("request")
def key_request(
    uri: Annotated[str, typer.Argument(help="pkcs11: URI of the signer's key")],
    name: Annotated[str, typer.Option(help="the signer's name: a role, not a person")],
    out: Annotated[Path, typer.Option(help="file for the request")],
    as_json: Json = False,
) -> None:
    """Ask for a certificate for a key that lives in a token."""
    from provisioning.image import keys

    out.write_bytes(keys.request_from_token(uri, name))
    lines = [f"Take {out} to the authority: lfr-provision image key signer --request {out}"]
    show({"request": str(out)}, lines, as_json=as_json)


@key_app.command("signer")
def key_signer(
    authority: Annotated[Path, typer.Option(help="the authority's folder")],
    name: Annotated[str, typer.Option(help="the signer's name: a role, not a person")],
    out: Annotated[Path, typer.Option(help="folder for signer.crt, and signer.key without a request")],
    request: Annotated[Path | None, typer.Option(help="request for a key in a token")] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Certify a signer for two years."""
    from provisioning.image import keys

    asked = _content(request) if request else None
    made = keys.issue_signer(authority, name, out, request=asked, passphrase=_passphrase_of(authority, passphrase_file))
    show({"certificate": str(made)}, [made], as_json=as_json)


@key_app.command("secure-boot")
def key_secure_boot(
    authority: Annotated[Path, typer.Option(help="the authority's folder")],
    out: Annotated[Path, typer.Option(help="new folder for PK, KEK and db")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make the keys that a machine's firmware holds (UEFI Secure Boot). Offline, like the authority itself."""
    from provisioning.image import firmware_keys

    made = firmware_keys.make(authority, out, passphrase=_passphrase_of(authority, passphrase_file))
    lines = [
        f"Put db.auth, KEK.auth and PK.auth of {out} into the machine's firmware, in this order.",
        f"{made} and {out}/db.key sign kernel images; PK.key and KEK.key stay here.",
    ]
    show({"certificate": str(made)}, lines, as_json=as_json)


@key_app.command("revoke")
def key_revoke(
    authority: Annotated[Path, typer.Option(help="the authority's folder")],
    certificate: Annotated[Path, typer.Argument(help="the signer's certificate")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Revoke a signer; write the keyring again and build the next image with it."""
    from provisioning.image import keys

    count = keys.revoke(authority, certificate, passphrase=_passphrase_of(authority, passphrase_file))
    lines = [f"{count} signer(s) of this authority are revoked. Next: lfr-provision image key keyring"]
    show({"revoked": count}, lines, as_json=as_json)


@key_app.command("keyring")
def key_keyring(
    out: Annotated[Path, typer.Argument(help="file to write")],
    authority: Annotated[list[Path], typer.Option(help="an authority's folder; repeat it to rotate: old and new")],
    development: Annotated[bool, typer.Option(help="allow a development authority")] = False,
    as_json: Json = False,
) -> None:
    """Write the keyring that goes into images and that verify and flash take."""
    from provisioning.image import keys

    keys.keyring(authority, out, development=development)
    show({"keyring": str(out)}, [f"{out} trusts {len(authority)} authority(ies)."], as_json=as_json)
