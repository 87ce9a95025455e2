"""Pictures as people hand them in are read as they were seen, or refused with what is wrong and what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import provisioning.demo
from edge.errors import ImageUnreadable
from edge.sight.picture import read_image
from provisioning.photograph import decode_photograph
from provisioning.reading import PictureReader
from tests.sim import pictures
from tests.sim.pictures import Picture, cut, encoded, lying, missing, segment, zeroed

PORTRAIT = Path(provisioning.demo.__file__).parent / "portraits" / "obama2.jpg"
ENDINGS = [".jpg", ".png", ".webp", ".tif"]


def read_photograph(path: Path) -> np.ndarray:
    """As the office reads it: in a child process."""
    with PictureReader() as reader:
        return reader.read(path)


def four_corners() -> Picture:
    """Wide, and no two of its corners alike."""
    image = np.full((32, 48, 3), 60, np.uint8)
    image[:16, :24], image[:16, 24:], image[16:, :24] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    return image


def alike(one: Picture, other: Picture) -> bool:
    return one.shape == other.shape and float(np.abs(one.astype(float) - other).mean()) < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ENDINGS)
def test_each_of_the_eight_orientations_is_obeyed_in_each_container(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    file = tmp_path / f"a{ending}"
    for order in "<>":
        file.write_bytes(encoded(lying(four_corners(), orientation), ending, orientation, order))
        assert alike(read_image(file), four_corners())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".webp", ".tif"])
def test_what_is_transparent_is_turned_with_the_picture(tmp_path: Path, ending: str, orientation: int) -> None:
    seen = np.dstack([four_corners(), np.full((32, 48), 255, np.uint8)])
    seen[:16, :24, 3] = 0
    (tmp_path / f"a{ending}").write_bytes(encoded(lying(seen, orientation), ending, orientation))
    wanted = four_corners()
    wanted[:16, :24] = 127
    assert alike(read_image(tmp_path / f"a{ending}"), wanted)


def test_exif_is_found_behind_what_a_picture_program_wrote_before_it(tmp_path: Path) -> None:
    plain = encoded(lying(four_corners(), 6), ".jpg", 6)
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
    (tmp_path / "a.jpg").write_bytes(plain[:2] + segment(0xED, b"Photoshop 3.0\0") + xmp + plain[2:])
    assert alike(read_image(tmp_path / "a.jpg"), four_corners())


@pytest.mark.parametrize("block", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*" + bytes(4), b"x" * 40])
def test_exif_that_makes_no_sense_leaves_the_picture_as_it_lies(tmp_path: Path, block: bytes) -> None:
    plain = cv2.imencode(".jpg", four_corners())[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(plain[:2] + segment(0xE1, b"Exif\0\0" + block) + plain[2:])
    assert alike(read_image(tmp_path / "a.jpg"), four_corners())


@pytest.mark.parametrize("damage", [zeroed, missing], ids=["zeroed", "missing"])
@pytest.mark.parametrize("start", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_a_damaged_picture_is_refused_and_not_mended(tmp_path: Path, ending: str, start: float, damage: object) -> None:
    data = encoded(read_image(PORTRAIT), ending)
    (tmp_path / f"a{ending}").write_bytes(damage(data, start))  # type: ignore[operator]
    with pytest.raises(ImageUnreadable, match=r"is damaged|is cut off"):
        read_image(tmp_path / f"a{ending}")


def test_a_jpeg_that_was_cut_off_and_closed_again_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(cut(PORTRAIT.read_bytes()) + b"\xff\xd9")
    with pytest.raises(ImageUnreadable, match="is damaged"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("ending", [*ENDINGS, ".bmp"])
@pytest.mark.parametrize("share", [0.3, 0.67, 0.999])
def test_a_picture_that_is_cut_off_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    image = read_image(PORTRAIT)
    data = encoded(image, ending) if ending != ".bmp" else cv2.imencode(".bmp", image)[1].tobytes()
    (tmp_path / f"a{ending}").write_bytes(cut(data, share))
    with pytest.raises(ImageUnreadable, match=r"is cut off|is damaged|or is damaged"):
        read_image(tmp_path / f"a{ending}")


@pytest.mark.parametrize(
    "behind", [b"\0" * 70_000, b"a film of two seconds" * 9000, b"\xff\xd8\xff\xe0 half a thumbnail"]
)
def test_a_whole_picture_with_something_behind_it_is_read(tmp_path: Path, behind: bytes) -> None:
    """Telephones put a film, a depth map or a second picture behind the first."""
    (tmp_path / "a.jpg").write_bytes(PORTRAIT.read_bytes() + behind)
    assert np.array_equal(read_image(tmp_path / "a.jpg"), read_image(PORTRAIT))


def test_a_picture_with_a_thumbnail_in_it_is_read_and_its_end_is_not_taken_for_the_pictures(tmp_path: Path) -> None:
    whole = PORTRAIT.read_bytes()
    thumbnail = segment(0xE1, b"Exif\0\0" + pictures.exif(1) + cv2.imencode(".jpg", four_corners())[1].tobytes())
    (tmp_path / "a.jpg").write_bytes(whole[:2] + thumbnail + whole[2:])
    assert np.array_equal(read_image(tmp_path / "a.jpg"), read_image(PORTRAIT))


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
        (b"GIF89a" + bytes(40), "GIF"),
        (b"%PDF-1.7" + bytes(40), "PDF"),
        (b"PK\x03\x04" + bytes(40), "Word, PowerPoint or ZIP"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(40), "film"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_what_to_do(tmp_path: Path, content: bytes, format_: str) -> None:
    (tmp_path / "IMG_0001.jpg").write_bytes(content)
    with pytest.raises(ImageUnreadable, match=f"is in the format {format_}, which is not read here") as refused:
        read_photograph(tmp_path / "IMG_0001.jpg")
    assert "save it as JPEG" in refused.value.next_step


@pytest.mark.parametrize("file", ["obama2.heic", "obama2-turned.heic"])
def test_a_telephones_heic_is_read_as_it_was_seen(file: str) -> None:
    wanted = read_image(PORTRAIT)
    size = (wanted.shape[1] * 420 // wanted.shape[0], 420)
    small = np.asarray(cv2.resize(wanted, size, interpolation=cv2.INTER_AREA), np.uint8)
    assert alike(
        read_photograph(pictures.HERE / file)[:, : size[0]], small[:, : read_photograph(pictures.HERE / file).shape[1]]
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_read_as_it_was_seen(tmp_path: Path, orientation: int) -> None:
    pil = pytest.importorskip("PIL.Image")
    stored = pil.fromarray(lying(four_corners(), orientation)[:, :, ::-1])
    stored.save(tmp_path / "a.avif", exif=b"Exif\0\0" + pictures.exif(orientation))
    assert alike(read_photograph(tmp_path / "a.avif"), four_corners())


def test_a_heic_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(cut((pictures.HERE / "obama2.heic").read_bytes()))
    with pytest.raises(ImageUnreadable, match="is cut off or damaged"):
        read_photograph(tmp_path / "a.heic")


def test_without_the_offices_extras_a_heic_is_named_and_not_called_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageUnreadable, match="is in the format HEIC, and what reads that is not installed") as refused:
        decode_photograph((pictures.HERE / "obama2.heic").read_bytes(), "a.heic")
    assert "save it as JPEG" in refused.value.next_step


def test_on_a_van_a_heic_is_named_as_well() -> None:
    with pytest.raises(ImageUnreadable, match="is in the format HEIC, which is not read here"):
        read_image(pictures.HERE / "obama2.heic")


# -- as the van reads them ---------------------------------------------------------------------------


def test_a_picture_is_turned_upright_by_its_exif(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :30] = 255
    good, data = cv2.imencode(".jpg", wide)
    assert good
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    body = data.tobytes()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(body[:2] + segment + body[2:])
    upright = read_image(tmp_path / "turned.jpg")
    assert upright.shape == (60, 20, 3)
    assert upright[:20].mean() > 200 > upright[-20:].mean()


def test_transparency_is_laid_on_grey(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[:2, :, 3] = 255
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    read = read_image(tmp_path / "a.png")
    assert read[0].max() == 0
    assert read[3].min() == 127


def test_a_grey_picture_gets_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "g.png"), np.full((4, 4), 9, np.uint8))
    assert read_image(tmp_path / "g.png").shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"this is text", "not a picture"), (None, "cannot be read")],
    ids=["empty", "text", "missing"],
)
def test_an_unreadable_picture_says_why(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageUnreadable, match=words):
        read_image(tmp_path / "x.jpg")


def test_a_jpeg_that_is_cut_off_is_refused_and_not_filled_with_grey(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ImageUnreadable, match="cut off"):
        read_image(tmp_path / "cut.jpg")
