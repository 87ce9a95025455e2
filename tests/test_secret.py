"""Where secrets come from, and who may read them. Real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import KeyUnusable
from edge.trust.secret import create_secret, read_secret


def a_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"00ff10\n", b"\x00\xff\x10"),
        (b"  00FF10  ", b"\x00\xff\x10"),
        (b"AGE-SECRET-KEY-1QQQ\n", b"AGE-SECRET-KEY-1QQQ\n"),
        (b"\xff\x00binary", b"\xff\x00binary"),
        (b"00f", b"00f"),
    ],
    ids=["hexadecimal", "hexadecimal with spaces", "text", "bytes", "an odd number of digits"],
)
def test_hexadecimal_becomes_bytes_and_anything_else_is_what_it_is(
    content: bytes, value: bytes, tmp_path: Path
) -> None:
    a_file(tmp_path / "key", content)
    assert read_secret("key", tmp_path) == value
    assert read_secret(str(tmp_path / "key")) == value


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601])
def test_a_secret_that_anybody_else_can_reach_is_refused(mode: int, tmp_path: Path) -> None:
    a_file(tmp_path / "key", b"00", mode)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        read_secret("key", tmp_path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_what_its_owner_alone_can_reach_is_read(mode: int, tmp_path: Path) -> None:
    a_file(tmp_path / "key", b"00", mode)
    assert read_secret("key", tmp_path) == b"\x00"


@pytest.mark.parametrize("content", [b"", b"  \n"])
def test_an_empty_secret_is_none(content: bytes, tmp_path: Path) -> None:
    a_file(tmp_path / "key", content)
    with pytest.raises(KeyUnusable, match="key"):
        read_secret("key", tmp_path)


def test_a_secret_that_is_not_there_or_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("nothing", "folder"):
        with pytest.raises(KeyUnusable, match=str(tmp_path / name)):
            read_secret(name, tmp_path)


def test_a_credential_is_read_from_where_systemd_put_it_whatever_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd gives them to the service alone by other means than the mode."""
    a_file(tmp_path / "van", b"00ff", 0o444)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret("credential:van", Path("/somewhere/else")) == b"\x00\xff"
    with pytest.raises(KeyUnusable, match="other"):
        read_secret("credential:other")


@pytest.mark.parametrize("folder", [None, ""])
def test_a_credential_without_systemd_is_refused_and_never_looked_for_elsewhere(
    folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a_file(tmp_path / "van", b"00")
    a_file(tmp_path / "credential:van", b"00")
    if folder is None:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    else:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", folder)
    with pytest.raises(KeyUnusable, match="systemd"):
        read_secret("credential:van", tmp_path)


def test_a_new_secret_is_random_and_its_owner_s_alone(tmp_path: Path) -> None:
    one, other = create_secret(tmp_path / "one"), create_secret(tmp_path / "other")
    assert (len(one), len(other)) == (32, 32)
    assert one != other
    assert read_secret("one", tmp_path) == one
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    assert len(create_secret(tmp_path / "short", 16)) == 16


def test_a_secret_is_never_overwritten(tmp_path: Path) -> None:
    value = create_secret(tmp_path / "key")
    with pytest.raises(KeyUnusable, match="exists"):
        create_secret(tmp_path / "key")
    assert read_secret("key", tmp_path) == value
