"""Two hundred pictures, films and spreadsheets as people and bad media change them, made by a seeded script.

Each gives the right template, the right reading or a refusal: never a traceback, never somebody else.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import EdgeError, FaceNotEnrollable, ImageUnreadable
from provisioning.encoder import ModelEncoder, make_encoder
from provisioning.photograph import decode_photograph
from provisioning.rows import read_list
from tests.mangle import mangled
from tests.sim import films
from tests.test_enrolment import Picture, portrait
from tests.test_film import watched

PICTURES, SHEETS, FILMS = 110, 60, 30
FRAMES = 40
KIND = {
    ".jpg": (cv2.IMWRITE_JPEG_QUALITY, 60), ".png": (), ".webp": (cv2.IMWRITE_WEBP_QUALITY, 70), ".bmp": (),
    ".tiff": (),
}  # fmt: skip
SHEET = (
    "reference,path,category,lawful_basis,image_source,image_taken,custody_image,review_by,age_band\n"
    "WW-1,pictures/1.jpg,wanted,Warrant 1,custody,2022-12-06,yes,2027-06-30,45-54\n"
    "WW-2,pictures/2.jpg,wanted,Warrant 2,passport,06/12/2022,no,2027-06-30,25-34\n"
)


@pytest.fixture(scope="module")
def encoder() -> ModelEncoder:
    return make_encoder()


def changed(picture: Picture, chance: random.Random) -> tuple[Picture, list[str]]:
    """The same face as people hand it in: turned, mirrored, scaled, cropped, brightened."""
    done = []
    for _ in range(chance.choice((1, 2, 3))):
        match chance.randrange(5):
            case 0:
                picture = np.rot90(picture, chance.randrange(1, 4))
                done.append("turned")
            case 1:
                picture = picture[:, ::-1]
                done.append("mirrored")
            case 2:
                scale = chance.choice((0.3, 0.5, 1.7))
                scaled = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                picture = np.asarray(scaled, np.uint8)
                done.append(f"scaled by {scale}")
            case 3:
                edge = int(min(picture.shape[:2]) * chance.uniform(0.0, 0.12))
                picture = picture[edge : picture.shape[0] - edge, edge : picture.shape[1] - edge]
                done.append("cropped")
            case _:
                picture = np.clip(picture.astype(np.float32) * chance.uniform(0.6, 1.4), 0, 255).astype(np.uint8)
                done.append("brightened")
    return np.ascontiguousarray(picture), done


def variants(chance: random.Random) -> Iterator[tuple[bytes, str, bool]]:
    """Encoded pictures, what was done to each, and whether its bytes were damaged."""
    for number in range(PICTURES):
        picture, done = changed(portrait(chance.choice(("obama2", "obama3"))), chance)
        ending = chance.choice(sorted(KIND))
        content = cv2.imencode(ending, picture, list(KIND[ending]))[1].tobytes()
        damaged = number % 3 == 0
        if damaged:
            content = mangled(content, "bytes", chance)
            done.append("damaged")
        yield content, f"{number}: {ending} {', '.join(done)}", damaged


def test_pictures_give_the_right_template_or_a_refusal(encoder: ModelEncoder) -> None:
    truth = np.stack([encoder.encode(portrait(name), name).template for name in ("obama2", "obama3")])
    counts: Counter[str] = Counter()
    for content, what, damaged in variants(random.Random(17)):
        try:
            face = encoder.encode(decode_photograph(content, "given"), "given")
        except (ImageUnreadable, FaceNotEnrollable):
            counts["damaged, refused" if damaged else "whole, refused"] += 1
            continue
        similarity = float(np.max(truth @ face.template))
        assert similarity > 0.7, f"{what}: {similarity:.2f}"
        counts["damaged, right" if damaged else "whole, right"] += 1
    assert sum(counts.values()) == PICTURES
    assert counts["whole, right"] > 3 * counts["whole, refused"], counts
    assert counts["damaged, refused"] > 0, counts


def test_spreadsheets_are_read_or_refused_with_words(tmp_path: Path) -> None:
    chance = random.Random(17)
    counts: Counter[str] = Counter()
    for number in range(SHEETS):
        text = SHEET.encode(chance.choice(("utf-8", "utf-8-sig", "utf-16", "cp1252")))
        if number % 4:
            text = mangled(text, chance.choice(("lines", "bytes")), chance)
        path = tmp_path / f"{number}.csv"
        path.write_bytes(text)
        try:
            source = read_list(path)
        except EdgeError:
            counts["refused"] += 1
            continue
        counts["read"] += 1
        for subject in source.subjects:
            assert len(subject.reference) <= 64, number
        assert number % 4 or sorted(subject.reference for subject in source.subjects) == ["WW-1", "WW-2"]
    assert counts["read"] >= SHEETS // 4
    assert counts["refused"] > 0


def test_films_end_with_a_word_or_whole(tmp_path: Path) -> None:
    chance = random.Random(17)
    whole = films.film(tmp_path / "whole.mp4").read_bytes()
    ends: Counter[str] = Counter()
    for number in range(FILMS):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(mangled(whole, "bytes", chance) if number else whole)
        try:
            frames, capture = watched(path)
        except EdgeError:
            ends["refused"] += 1
            continue
        said = capture.incomplete is not None or capture.counts().unreadable > 0
        assert said or len(frames) == FRAMES, f"{number}: {len(frames)} of {FRAMES} frames, and not a word"
        ends["whole" if len(frames) == FRAMES else "in part, and said"] += 1
    assert ends["whole"] >= 1
    assert sum(ends.values()) == FILMS
