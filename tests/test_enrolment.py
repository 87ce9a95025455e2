"""Enrolment, on real portraits and with the real models."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import provisioning.demo
from edge.errors import FaceNotEnrollable
from edge.records import Detections
from edge.sight.detect import Detector
from edge.sight.picture import read_image
from provisioning.cli import watchlist as app
from provisioning.encoder import CLEAR_LEAD, ModelEncoder, make_encoder
from provisioning.enrol import EncodedFace, enrol
from provisioning.sources import Record, Source, Subject, read_folder

STATED = ["--approved", "wanted", "--category", "wanted", "--lawful-basis", "warrant", "--image-source", "court"]
PORTRAITS = Path(provisioning.demo.__file__).parent / "portraits"
Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def encoder() -> ModelEncoder:
    return make_encoder()


def portrait(name: str) -> Picture:
    return read_image(PORTRAITS / f"{name}.jpg")


@pytest.fixture(scope="module")
def obama(encoder: ModelEncoder) -> EncodedFace:
    return encoder.encode(portrait("obama2"), "obama2")


def test_another_photograph_of_one_man_is_nearer_than_anybody_else(encoder: ModelEncoder, obama: EncodedFace) -> None:
    again = encoder.encode(portrait("obama3"), "obama3")
    others = [encoder.encode(portrait(name), name) for name in ("biden", "collins", "hopper")]
    nearest = max(float(obama.template @ other.template) for other in others)
    assert float(obama.template @ again.template) > nearest + 0.2


def test_a_template_has_length_1_and_the_picture_is_small(encoder: ModelEncoder, obama: EncodedFace) -> None:
    assert obama.template.shape == (encoder.dimension,)
    assert float(np.linalg.norm(obama.template)) == pytest.approx(1.0, abs=1e-5)
    shown = cv2.imdecode(np.frombuffer(obama.picture, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert max(shown.shape[:2]) <= 320
    assert len(obama.picture) < 60_000


def test_what_the_encoder_shows_of_itself_holds_no_biometric(obama: EncodedFace) -> None:
    assert repr(obama).startswith("EncodedFace(eye_distance=")


def rotated_by_exif(image: Picture, path: Path) -> None:
    """Store the picture lying on its side, with the EXIF tag that says so (orientation 6: turn clockwise)."""
    data = cv2.imencode(".jpg", cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    tiff = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, 6) + b"\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:])


def with_alpha(image: Picture, path: Path) -> None:
    alpha = np.full(image.shape[:2], 255, np.uint8)
    alpha[:20] = 0
    cv2.imwrite(str(path.with_suffix(".png")), np.dstack([image, alpha]))


def in_grey(image: Picture, path: Path) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def huge(image: Picture, path: Path) -> None:
    cv2.imwrite(str(path), cv2.resize(image, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC))


def all_face(image: Picture, path: Path) -> None:
    """Cropped to within the face's own box."""
    cv2.imwrite(str(path), within_the_face(image))


def within_the_face(image: Picture) -> Picture:
    x1, y1, x2, y2 = (float(side) for side in make_encoder()._detector.detect(image).boxes[0])
    inset_x, inset_y = 0.05 * (x2 - x1), 0.05 * (y2 - y1)
    return np.ascontiguousarray(
        image[round(y1 + inset_y) : round(y2 - inset_y), round(x1 + inset_x) : round(x2 - inset_x)]
    )


@pytest.mark.parametrize("store", [rotated_by_exif, with_alpha, in_grey, huge, all_face])
def test_a_picture_as_people_hand_it_in_gives_the_same_person(
    store: Callable[[Picture, Path], None], encoder: ModelEncoder, obama: EncodedFace, tmp_path: Path
) -> None:
    store(portrait("obama2"), tmp_path / "picture.jpg")
    (file,) = tmp_path.iterdir()
    face = encoder.encode(read_image(file), file.name)
    assert float(face.template @ obama.template) > 0.85


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("name", ["obama2", "obama3", "biden"])
def test_a_picture_that_lies_on_its_side_is_enrolled_upright(name: str, turns: int, encoder: ModelEncoder) -> None:
    picture = portrait(name)
    upright = encoder.encode(picture, "upright")
    lying = encoder.encode(np.ascontiguousarray(np.rot90(picture, turns)), "lying")
    assert (upright.turned, lying.turned) == (0, 90 * turns)
    assert float(lying.template @ upright.template) > 0.99
    assert lying.picture == upright.picture, "the control room sees it upright, too"


def test_a_face_that_is_as_good_in_two_turns_is_refused_and_not_guessed(
    encoder: ModelEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned to the left it fits hardly better than as it lies, and it would be enrolled either way."""
    upright = encoder._view(portrait("obama2"), 0)
    assert upright is not None
    fits = {0: 2.80, 1: 2.80 + CLEAR_LEAD - 0.001}

    def view(image: Picture, turns: int) -> object:
        return replace(upright, turns=turns, fit=fits[turns]) if turns in fits else None

    monkeypatch.setattr(encoder, "_view", view)
    with pytest.raises(FaceNotEnrollable, match="may lie on its side"):
        encoder.encode(portrait("obama2"), "given.jpg")
    fits[1] = 2.80 + CLEAR_LEAD + 0.001
    assert encoder.encode(portrait("obama2"), "given.jpg").turned == 270
    fits[1] = 2.80 - CLEAR_LEAD + 0.001
    with pytest.raises(FaceNotEnrollable) as caught:
        encoder.encode(portrait("obama2"), "given.jpg")
    assert "if all are upright, say --as-they-lie" in caught.value.next_step
    monkeypatch.setattr(encoder, "_turns", (0,))
    assert encoder.encode(portrait("obama2"), "given.jpg").turned == 0


def test_the_build_says_which_pictures_it_has_turned(tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "R-1"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), cv2.rotate(portrait("obama2"), cv2.ROTATE_90_CLOCKWISE))
    cv2.imwrite(str(folder / "b.png"), cv2.rotate(portrait("obama3"), cv2.ROTATE_180))
    built = CliRunner().invoke(
        app,
        ["build", "--images", str(tmp_path / "pictures"), "--out", str(tmp_path / "list"), "--category", "demo",
         "--approved", "demo", "--lawful-basis", "test", "--image-source", "official portrait"],
    )  # fmt: skip
    assert built.exit_code == 0, built.output
    said = " ".join(built.output.split())
    assert f"R-1: {folder / 'a.png'} lay on its side and was turned upright." in said
    assert f"R-1: {folder / 'b.png'} lay upside down and was turned upright." in said


def folder_of(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "pictures" / "R-1"
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / f"{number}-{name}.jpg").write_bytes((PORTRAITS / f"{name}.jpg").read_bytes())
    return folder.parent


def test_one_reference_with_pictures_of_two_people_is_nobody(encoder: ModelEncoder, tmp_path: Path) -> None:
    result = enrol(read_folder(folder_of(tmp_path, "obama2", "biden"), Record(category="demo")), encoder)
    assert (result.entries, result.used, result.pictures) == ([], 0, 2)
    (refusal,) = result.refused
    assert refusal.file == "R-1"
    assert "0-obama2.jpg and " in refusal.reason
    assert "1-biden.jpg do not agree" in refusal.reason


def test_a_picture_of_somebody_else_among_several_is_left_out_by_name(encoder: ModelEncoder, tmp_path: Path) -> None:
    result = enrol(read_folder(folder_of(tmp_path, "obama2", "biden", "obama3"), Record(category="demo")), encoder)
    (entry,) = result.entries
    assert (len(entry.templates), result.used) == (2, 2)
    (refusal,) = result.refused
    assert refusal.file.endswith("1-biden.jpg")
    assert refusal.reason.startswith("shows somebody else than the other pictures of R-1")
    with_obama = encoder.encode(portrait("obama2"), "o").template @ entry.templates.T
    assert float(with_obama.min()) > 0.6


class MissesAtFirst:
    """The real detector, but for its first picture."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, image: Picture) -> Detections:
        self.sizes.append(image.shape[:2])
        return self._detector.detect(image) if len(self.sizes) > 1 else Detections.empty()

    def look_again(self, image: Picture, box: NDArray[np.float32]) -> NDArray[np.float32] | None:
        return self._detector.look_again(image, box)


def test_a_face_that_fills_a_picture_and_is_missed_is_looked_for_again_with_a_border(obama: EncodedFace) -> None:
    encoder = make_encoder()
    misses = MissesAtFirst(encoder._detector)
    encoder._detector = misses  # type: ignore[assignment]
    face = encoder.encode(within_the_face(portrait("obama2")), "all face")
    (high, wide), (higher, wider) = misses.sizes[:2]
    assert higher > high
    assert wider > wide
    assert float(face.template @ obama.template) > 0.85


def two_faces() -> Picture:
    one, other = portrait("obama2"), portrait("biden")
    other = np.asarray(cv2.resize(other, (one.shape[1], one.shape[0])), np.uint8)
    return np.hstack([one, other])


def blurred() -> Picture:
    image = portrait("obama2")
    return np.asarray(cv2.GaussianBlur(image, (0, 0), image.shape[1] / 60), np.uint8)


def far_away() -> Picture:
    image = portrait("obama2")
    small = cv2.resize(image, None, fx=60 / image.shape[1], fy=60 / image.shape[1], interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.copyMakeBorder(small, 60, 60, 60, 60, cv2.BORDER_REPLICATE), np.uint8)


def nobody() -> Picture:
    rng = np.random.default_rng(3)
    return np.asarray(cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (640, 480)), np.uint8)


def one_pixel() -> Picture:
    return np.zeros((1, 1, 3), np.uint8)


def dark() -> Picture:
    return np.asarray(portrait("obama2") * 0.12, np.uint8)


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (two_faces, "holds 2 faces"),
        (blurred, "cannot be enrolled: the face is blurred"),
        (far_away, "cannot be enrolled: the eyes are too few pixels apart"),
        (nobody, "holds no face"),
        (one_pixel, "holds no face"),
        (dark, "cannot be enrolled: the face is too dark"),
    ],
)
def test_a_picture_that_cannot_be_enrolled_says_why(
    make: Callable[[], Picture], cause: str, encoder: ModelEncoder
) -> None:
    with pytest.raises(FaceNotEnrollable) as caught:
        encoder.encode(make(), "given.jpg")
    assert caught.value.thing == "given.jpg"
    assert caught.value.cause.startswith(cause)


def source_folder(tmp_path: Path) -> Path:
    """Three people of which two can be enrolled, among files that cannot."""
    folder = tmp_path / "pictures"
    for reference, name in (("R-1", "obama2"), ("R-1", "obama3"), ("R-2", "biden")):
        (folder / reference).mkdir(parents=True, exist_ok=True)
        (folder / reference / f"{name}.jpg").write_bytes((PORTRAITS / f"{name}.jpg").read_bytes())
    (folder / "R-2" / "text.jpg").write_text("no picture at all")
    (folder / "R-2" / "empty.jpg").write_bytes(b"")
    whole = (PORTRAITS / "biden.jpg").read_bytes()
    (folder / "R-2" / "half.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    (folder / "R-3").mkdir()
    cv2.imwrite(str(folder / "R-3" / "nobody.png"), nobody())
    return folder


def test_a_bad_picture_is_listed_and_the_rest_is_enrolled(encoder: ModelEncoder, tmp_path: Path) -> None:
    result = enrol(read_folder(source_folder(tmp_path), Record(category="demo")), encoder)
    assert [(entry.reference, len(entry.templates), entry.category) for entry in result.entries] == [
        ("R-1", 2, "demo"),
        ("R-2", 1, "demo"),
    ]
    reasons = {Path(refusal.file).name: refusal.reason for refusal in result.refused}
    assert reasons.pop("half.jpg") in {"is cut off", "is not a picture"}  # as far as the decoder got
    assert reasons == {
        "text.jpg": "is not a picture, or is damaged",
        "empty.jpg": "is empty",
        "nobody.png": "holds no face",
        "R-3": "has no picture that could be enrolled",
    }
    assert (result.pictures, result.used) == (7, 3)


def test_a_picture_that_is_not_there_is_listed(encoder: ModelEncoder, tmp_path: Path) -> None:
    source = Source([Subject("R-1", (tmp_path / "nothing.jpg",), Record())])
    result = enrol(source, encoder)
    assert result.entries == []
    assert result.refused[0].reason == "cannot be read (No such file or directory)"


def test_the_command_builds_a_list_that_inspect_can_show(tmp_path: Path) -> None:
    out = tmp_path / "list"
    arguments = [
        "build",
        "--images",
        str(source_folder(tmp_path)),
        "--out",
        str(out),
        "--deployment",
        "D-7",
        "--json",
        *STATED,
    ]
    built = CliRunner().invoke(app, arguments)
    assert built.exit_code == 6, built.output
    report = json.loads(built.stdout)
    assert (report["entries"], report["templates"], report["deployment"]) == (2, 3, "D-7")
    assert len(report["refused"]) == 5
    assert sorted(p.name for p in out.iterdir()) == ["report.json", "watchlist.db", "watchlist.key"]
    assert (out / "watchlist.key").stat().st_mode & 0o077 == 0

    shown = CliRunner().invoke(app, ["inspect", str(out), "--json"])
    assert shown.exit_code == 0, shown.output
    listing = json.loads(shown.stdout)
    assert listing["digest"] == report["digest"]
    assert [entry["reference"] for entry in listing["entries"]] == ["R-1", "R-2"]


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (lambda folder: None, 4, "is empty"),
        (lambda folder: folder.rmdir(), 4, "is not a folder"),
        (
            lambda folder: ((folder / "R-1").mkdir(), (folder / "R-1" / "a.jpg").write_text("text")),
            4,
            "not one of 1 pictures could be enrolled; the first: ",
        ),
    ],
)
def test_a_source_without_a_face_is_one_line_and_exit_code_4(
    prepare: Callable[[Path], object], code: int, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    prepare(folder)
    done = CliRunner().invoke(app, ["build", "--images", str(folder), "--out", str(tmp_path / "out"), *STATED])
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_second_build_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    arguments = ["build", "--images", str(source_folder(tmp_path)), "--out", str(tmp_path / "out"), *STATED]
    assert CliRunner().invoke(app, [*arguments, "--allow-partial"]).exit_code == 0
    before = (tmp_path / "out" / "watchlist.db").read_bytes()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 4
    assert "exists already" in again.stderr
    assert (tmp_path / "out" / "watchlist.db").read_bytes() == before


def test_neither_or_both_sources_is_a_usage_error(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["build", "--out", str(tmp_path)]).exit_code == 2
