"""Whoever would have a van run another image: with a stolen medium of keys, or with a bundle that nobody signed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from edge.errors import KeyUnusable
from edge.vanroot import failed_updates, floor, preinstall
from provisioning.image import keys
from provisioning.image.cli import app

LONG = "four or five words"


def protected(folder: Path) -> bool:
    try:
        serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except TypeError:
        return True
    return False


def authority(folder: Path, *more: str, typed: str = "") -> int:
    done = CliRunner().invoke(app, ["key", "authority", str(folder), "--kind", "release", *more], input=typed)
    return done.exit_code


def test_a_release_authoritys_key_is_never_written_without_the_passphrase_that_help_promises(tmp_path: Path) -> None:
    assert authority(tmp_path / "asked", typed=f"{LONG}\n{LONG}\n") == 0
    assert protected(tmp_path / "asked")
    assert authority(tmp_path / "nobody answers") != 0
    assert not (tmp_path / "nobody answers" / "ca.key").exists()
    assert authority(tmp_path / "two different", typed=f"{LONG}\nanother one altogether\n") != 0
    assert not (tmp_path / "two different" / "ca.key").exists()


@pytest.mark.parametrize("content", ["", "\n", "short"])
def test_a_passphrase_file_with_nothing_in_it_protects_nothing_and_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text(content)
    assert authority(tmp_path / "ca", "--passphrase-file", str(tmp_path / "passphrase")) != 0
    assert not (tmp_path / "ca" / "ca.key").exists()


def test_a_passphrase_that_can_be_tried_out_is_refused(tmp_path: Path) -> None:
    for passphrase in (b"", b"123456789"):
        with pytest.raises(KeyUnusable, match="fewer than 10 characters"):
            keys.make_authority(tmp_path / "ca", "release", passphrase=passphrase)


def test_a_bench_says_that_it_wants_no_passphrase(tmp_path: Path) -> None:
    assert authority(tmp_path / "ca", "--unprotected") == 0
    assert not protected(tmp_path / "ca")


def test_whoever_certifies_a_signer_is_asked_for_the_passphrase(tmp_path: Path) -> None:
    keys.make_authority(tmp_path / "ca", "release", passphrase=LONG.encode())
    command = ["key", "signer", "--authority", str(tmp_path / "ca"), "--name", "x", "--out", str(tmp_path / "signer")]
    assert CliRunner().invoke(app, command, input=f"{LONG}\n").exit_code == 0
    assert (tmp_path / "signer" / "signer.crt").exists()
    assert CliRunner().invoke(app, [*command[:-1], str(tmp_path / "other")], input="wrong words\n").exit_code != 0
    assert not (tmp_path / "other" / "signer.crt").exists()


RELEASE = {"version": "2.0", "epoch": 3, "board": "qemu-arm64", "digests": {}}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"[" * 100_000, "NoRelease"),
        (b"\xff", "NoRelease"),
        (b"[]", "NoRelease"),
        (b" " * (2 << 20), "PayloadDamaged"),
        (json.dumps({**RELEASE, "epoch": 2}).encode(), "LowerEpoch"),
        (json.dumps({**RELEASE, "version": "1.9"}).encode(), "OlderVersion"),
        (json.dumps({**RELEASE, "version": "9" * 100}).encode(), "NoRelease"),
        (json.dumps({**RELEASE, "epoch": True}).encode(), "NoRelease"),
        (json.dumps({**RELEASE, "board": "toaster"}).encode(), "WrongBoard"),
        (json.dumps(RELEASE).encode(), "PayloadDamaged"),
    ],
)
def test_a_release_record_that_is_none_or_older_is_refused_by_name(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / "release.json").write_bytes(content)
    refusal = preinstall.inspect(tmp_path, floor.Floor("2.0", 3), board="qemu-arm64", deployed=False)
    assert refusal is not None
    assert refusal.name == name


def test_a_release_record_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(RELEASE))
    (tmp_path / "release.json").symlink_to("elsewhere.json")
    refusal = preinstall.inspect(tmp_path, floor.Floor(), board="qemu-arm64", deployed=False)
    assert refusal is not None
    assert refusal.name == "PayloadDamaged"


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"{}", b"[[1]]", b"null"])
def test_a_record_of_tries_that_is_damaged_is_an_empty_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tried.json").write_bytes(content)
    assert failed_updates.read(tmp_path / "tried.json") == frozenset()
