"""Somebody who hands in a picture that is to crash the office, to fill it, or to reach a forgotten decoder."""

from __future__ import annotations

import json
import re
import resource
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import msgspec
import numpy as np
import openpyxl
import pyrage
import pytest

import provisioning.demo
from edge.alert.message import seal
from edge.config import load, parse
from edge.deployment.position import Gpsd
from edge.errors import EdgeError, ImageUnreadable, NothingToEnrol
from edge.match.calibration import FILE_NAME, ImpostorTail
from edge.sight import card
from edge.sight.header import read_header
from edge.sight.picture import MAX_PIXELS, decode_image, read_image
from edge.system.health import read_status
from edge.trust.authority import parse_authority
from edge.trust.keys import DecryptionKeys, KnownSigners, Recipients, SigningKey
from edge.trust.revocation import REVOCATION, parse_revocation
from edge.watchlist.bundle import MAGIC, Manifest, parse_manifest, read_bundle
from edge.watchlist.identity import ListMeta
from edge.watchlist.store import WatchlistStore
from edge.worker import Supervisor
from provisioning.authority import draft_authority
from provisioning.reading import PictureReader
from provisioning.rows import read_list
from provisioning.site import van_keys
from provisioning.sources import COLUMNS
from provisioning.spreadsheet import read_spreadsheet
from tests.broker import make_alert
from tests.lists import DIMENSION, entry
from tests.sim.clock import HandClock

PORTRAIT = Path(provisioning.demo.__file__).parent / "portraits/obama2.jpg"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SMALL = np.full((16, 16, 3), 127, np.uint8)


def encoded(suffix: str, image: np.ndarray = SMALL, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, image, list(options))
    assert done
    return data.tobytes()


def jpeg_bomb() -> bytes:
    data = bytearray(encoded(".jpg"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def jpeg_bomb_behind_a_thumbnail() -> bytes:
    """A small picture inside the metadata says nothing of the large one."""
    inner = encoded(".jpg")
    segment = b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner
    return jpeg_bomb()[:2] + segment + jpeg_bomb()[2:]


def png_bomb() -> bytes:
    data = bytearray(encoded(".png"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    return bytes(data)


def bmp_bomb() -> bytes:
    data = bytearray(encoded(".bmp"))
    data[18:26] = struct.pack("<ii", 60_000, -60_000)
    return bytes(data)


def webp_bomb() -> bytes:
    data = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\x00" * 2
    return b"RIFF" + struct.pack("<I", len(data) + 4) + b"WEBP" + data


def tiff_bomb() -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, 60_000) for tag in (256, 257))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 2) + entries + bytes(4)


BOMBS: list[Callable[[], bytes]] = [
    jpeg_bomb, jpeg_bomb_behind_a_thumbnail, png_bomb, bmp_bomb, webp_bomb, tiff_bomb,
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_by_its_header_before_a_byte_is_decoded(
    bomb: Callable[[], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    (tmp_path / "bomb.jpg").write_bytes(bomb())
    with pytest.raises(ImageUnreadable, match="million pixels"):
        read_image(tmp_path / "bomb.jpg")


@pytest.mark.parametrize("suffix", [".jp2", ".hdr", ".ras", ".pfm", ".ppm", ".pgm", ".exr", ".pic", ".sr"])
def test_a_format_that_nobody_means_is_not_decoded_under_the_name_of_one(suffix: str, tmp_path: Path) -> None:
    image = SMALL.astype(np.float32) / 255 if suffix in {".hdr", ".pfm", ".exr", ".pic"} else SMALL
    if suffix == ".pgm":
        image = image[:, :, 0]
    try:
        data = encoded(suffix, image)
    except (cv2.error, AssertionError):
        pytest.skip(f"this OpenCV does not write {suffix}")
    (tmp_path / "picture.jpg").write_bytes(data)
    with pytest.raises(ImageUnreadable, match="is not a picture"):
        read_image(tmp_path / "picture.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("size", [(16, 16), (37, 501)])
def test_the_header_says_what_the_decoder_finds(suffix: str, size: tuple[int, int]) -> None:
    data = encoded(suffix, np.full((*size, 3), 99, np.uint8))
    header = read_header(data)
    assert header is not None
    assert (header.height, header.width) == size
    assert decode_image(np.frombuffer(data, np.uint8), "x").shape == (*size, 3)


def test_every_cut_of_every_format_is_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".bmp", ".webp", ".tif"):
        data = encoded(suffix)
        for length in range(min(len(data), 120)):
            read_header(data[:length])
    for magic in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"II*\0", b"MM\0*"):
        rng = np.random.default_rng(len(magic))
        for _ in range(300):
            read_header(magic + rng.bytes(int(rng.integers(0, 60))))


# -- what passes the header meets a limit of time and memory --------------------------------------


def endless() -> bytes:
    """A progressive JPEG of modest size whose last scan is said again and again."""
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 255, (2500, 2500, 3), np.uint8)
    data = encoded(".jpg", noise, cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 20)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 180 + b"\xff\xd9"


def test_a_picture_that_takes_too_long_is_stopped_and_the_next_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "endless.jpg").write_bytes(endless())
    with PictureReader(seconds=2.0) as reader:
        began = time.monotonic()
        with pytest.raises(ImageUnreadable, match="takes longer than 2 s"):
            reader.read(tmp_path / "endless.jpg")
        assert time.monotonic() - began < 10
    with PictureReader() as reader:
        assert reader.read(PORTRAIT).shape[2] == 3


def test_a_picture_that_takes_too_much_memory_takes_none_of_this_process(tmp_path: Path) -> None:
    side = int(MAX_PIXELS**0.5) - 10
    (tmp_path / "large.png").write_bytes(encoded(".png", np.zeros((side, side), np.uint8)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with PictureReader(memory=1 << 29) as reader, pytest.raises(ImageUnreadable):
        reader.read(tmp_path / "large.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "KiB"


def test_a_reader_that_dies_takes_its_picture_and_no_other(tmp_path: Path) -> None:
    with PictureReader() as reader:
        first = reader.read(PORTRAIT)
        assert reader._child is not None
        reader._child.kill()
        reader._child.wait()
        with pytest.raises(ImageUnreadable, match="broke the reader"):
            reader.read(PORTRAIT)
        again = reader.read(PORTRAIT)
    assert np.array_equal(first, again)
    assert np.array_equal(first, read_image(PORTRAIT))
    assert again.flags.writeable, "it can be erased"


def test_the_reader_can_write_no_file(tmp_path: Path) -> None:
    with PictureReader() as reader:
        reader.read(PORTRAIT)
        assert reader._child is not None
        limits = Path(f"/proc/{reader._child.pid}/limits").read_text()
    assert any(line.startswith("Max file size") and line.split()[3] == "0" for line in limits.splitlines())


# -- text that is none ----------------------------------------------------------------------------

DEEP = 100_000
NASTY = [
    b"\xff\xfe",
    b'{"deployment": "\xff"}',
    b'{"\xff": 1}',
    b"[" * DEEP,
    b'{"keys": ' + b"[" * DEEP,
    b'{"notice": ' * DEEP,
    b"x = " + b"[" * DEEP,
    b"x = " + b"{a = " * DEEP,
    b'deployment = "\xff"',
    b"9" * 10_000,
    b"",
    b"\0",
]
UNIT = SigningKey.generate()
READERS = Recipients.of(DecryptionKeys.generate().public_jwks()["keys"])
MANIFEST = Manifest(
    schema=1, deployment="D-1", vans=("van-1",), watchlist=f"sha256:{'1' * 64}", model="a" * 64, dimension=192,
    entries=1, built=NOW, bundle="x.age",
)  # fmt: skip


def revocation(content: bytes, _: Path) -> object:
    """Signed by somebody who may revoke, and no revocation all the same."""
    signers = KnownSigners.of([UNIT.public_jwk(owner="intelligence-unit")])
    return parse_revocation(UNIT.sign(content, REVOCATION), signers, deployment="D-1")


def written(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def use(content: bytes, folder: Path) -> object:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return read(folder)

    return use


PARSERS: dict[str, Callable[[bytes, Path], object]] = {
    "authority": lambda content, _: parse_authority(content),
    "manifest": lambda content, _: parse_manifest(content),
    "revocation": revocation,
    "configuration": written("lfr.toml", lambda folder: load(folder / "lfr.toml")),
    "configuration's text": lambda content, _: parse(content.decode("utf-8", "replace")),
    "key set": written("keys.jwks", lambda folder: KnownSigners.load(folder / "keys.jwks")),
    "model card": written("card.toml", card.read),
    "impostor tail": written(FILE_NAME, ImpostorTail.load),
    "status": written("status.json", lambda folder: read_status(folder / "status.json")),
    "keys of vans": written("control-room/vans.jwks", van_keys),
    "draft of an authority": written(
        "authority.toml",
        lambda folder: draft_authority(folder / "authority.toml", MANIFEST, NOW),
    ),
}


@pytest.mark.parametrize("content", NASTY, ids=lambda content: repr(content[:16]))
@pytest.mark.parametrize("name", PARSERS)
def test_text_that_is_none_is_an_error_with_three_sentences(name: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(EdgeError) as caught:
        PARSERS[name](content, tmp_path)
    assert caught.value.next_step


OUT_OF_TIME = ("0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "9999-12-31T23:59:00-14:00")
"""Moments that are written as they should be. The first and the last cannot be told in another time zone."""


@pytest.mark.parametrize("moment", OUT_OF_TIME)
def test_a_moment_that_cannot_be_is_refused_where_it_is_read(moment: str, tmp_path: Path) -> None:
    said = {"deployment": "D-1", "reference": "S-1", "cause": "a wrong one", "issued_at": moment}
    with pytest.raises(EdgeError, match="outside the years"):
        revocation(json.dumps(said).encode(), tmp_path)
    described = {**msgspec.to_builtins(MANIFEST), "built": moment}
    with pytest.raises(EdgeError, match="outside the years"):
        parse_manifest(json.dumps(described).encode())


ENTRY = ["S-1", "c", "l", "s", None, False, None, None, "unknown", 1, bytes(4 * 192), b"jpeg"]
FRAMES = {
    "an empty frame": b"",
    "a reference that is no text": b"\x9c\xa3\xff\xff\xff",
    "a text instead of the count": msgspec.msgpack.encode("x"),
    "a count that is no text either": b"\xa1\xff",
    "nesting without end": b"\x9c" * 100_000,
    "more templates than there are bytes": msgspec.msgpack.encode([*ENTRY[:9], 2**62, *ENTRY[10:]]),
    "fewer than one": msgspec.msgpack.encode([*ENTRY[:9], -1, *ENTRY[10:]]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_bundle_that_its_maker_filled_with_nonsense_is_refused(name: str, tmp_path: Path) -> None:
    """Genuine in everything else: signed for, and encrypted to this van."""
    identity = pyrage.x25519.Identity.generate()
    frames = (msgspec.json.encode(MANIFEST), FRAMES[name])
    content = MAGIC + b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    (tmp_path / "x.age").write_bytes(pyrage.encrypt(content, [identity.to_public()]))
    with pytest.raises(EdgeError):
        read_bundle(tmp_path / "x.age", identity, MANIFEST, lambda _: None)


@pytest.mark.parametrize("last", ["J1048576", "XFD1048576"])
def test_a_workbook_whose_last_cell_is_far_away_and_empty_is_read_at_once(last: str, tmp_path: Path) -> None:
    """Five kilobytes, as Excel writes them where somebody formatted a whole column; they took 2.5 GB and a minute."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["reference", "path", "category"])
    sheet.append(["WW-1", "one.jpg", "wanted on warrant"])
    sheet[last].number_format = "0.00"
    book.save(tmp_path / "list.xlsx")
    tracemalloc.start()
    try:
        found = read_spreadsheet(tmp_path / "list.xlsx", COLUMNS)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert [row.cells["path"].text for row in found.rows] == ["one.jpg"]


def test_a_workbook_that_is_too_wide_is_refused(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["reference", "path"])
    book.active["XFD2"] = "far away"
    book.save(tmp_path / "list.xlsx")
    with pytest.raises(NothingToEnrol, match="more than 500 columns in row 2"):
        read_spreadsheet(tmp_path / "list.xlsx", COLUMNS)


TOO_LONG = {
    "category": {"category": "x" * 201},
    "look-alike": {"lookalikes": ("his twin brother, who lives nearby; " * 6,)},
    "look-alikes": {"lookalikes": tuple(f"S-{number}" for number in range(17))},
    "look-alike without a reference": {"lookalikes": ("",)},
    "reference": {"reference": "S-" + "1" * 200},
    "date": {"image_taken": "2" * 33},
    "picture": {"reference_jpeg": bytes(256 * 1024 + 1)},
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_somebody_of_whom_no_alert_could_be_made_comes_on_no_list(name: str, tmp_path: Path) -> None:
    """The office's store and the van's: there it would end matching when the person passes."""
    meta = ListMeta("D-1", "a" * 64, DIMENSION, NOW)
    with WatchlistStore.create(tmp_path / "list.db", bytes(32), meta) as store:
        with pytest.raises(EdgeError):
            store.add([entry("S-1"), entry(**{"reference": "S-2", **TOO_LONG[name]})])
        assert len(store) == 0
        longest = entry("S-" + "1" * 198, category="x" * 200, lookalikes=("y" * 200,) * 16)
        store.add([longest])
        found = store.entry(longest.reference)
        said = {field: getattr(found, field) for field in ("reference", "category", "image_taken", "lookalikes")}
        seal(make_alert(reference_jpeg=found.reference_jpeg, **said), UNIT, READERS)


def test_a_row_with_prose_in_the_place_of_a_reference_is_left_out_by_name(tmp_path: Path) -> None:
    prose = "his twin brother, who lives nearby and was seen there, " * 6
    head = "reference,path,category,lawful_basis,image_source,lookalikes\n"
    (tmp_path / "list.csv").write_text(f'{head}WW-1,one.jpg,wanted,Warrant,family,"{prose}"\n')
    found = read_list(tmp_path / "list.csv")
    assert found.subjects == []
    assert [each.reason for each in found.refused] == [
        f"cell F2 (lookalikes) has {len(prose.strip())} characters, 200 are allowed"
    ]


def test_a_gpsd_that_says_anything_at_all_ends_nothing() -> None:
    """Whoever is on the van's network can be its gpsd."""
    failed: list[object] = []
    workers, moment = Supervisor(failed.append), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = Gpsd(HandClock(NOW), port=server.getsockname()[1])
        receiver.start(workers)
        try:
            connection, _ = server.accept()
            with connection:
                connection.recv(200)
                for line in NASTY:
                    connection.sendall(line.replace(b"\n", b"") + b"\n")
                for report in (
                    '"mode": 3, "lat": 1e400, "lon": 0',
                    '"mode": true, "lat": [], "lon": {}',
                    '"mode": "3"',
                ):
                    connection.sendall(b'{"class": "TPV", ' + report.encode() + b"}\n")
                connection.sendall(b'{"class": "TPV", "mode": 3, "lat": 51.5, "lon": -0.1, "time": "\xff"}\n')
                connection.sendall(b'{"class": "TPV", "mode": 3, "lat": 51.5, "lon": -0.1, "time": "9999-99"}\n')
                deadline = time.monotonic() + 20
                while receiver.position() is None and time.monotonic() < deadline:
                    moment.wait(0.01)
                assert receiver.position() is not None
        finally:
            receiver.stop()
    assert failed == []


def test_json_and_toml_from_outside_are_parsed_in_one_place() -> None:
    root = Path(provisioning.demo.__file__).parents[2]
    found = {
        str(path.relative_to(root))
        for folder in ("edge", "provisioning")
        for path in (root / folder).rglob("*.py")
        if re.search(r"msgspec\.(json|toml)\.decode\(|tomllib\.load", path.read_text())
    }
    assert found == {"edge/parsing.py", "edge/vanroot/compose.py"}
