"""Real people in real video: who is on the list raises an alert in their own name, and nobody else does."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from edge.config import ModelsSection
from edge.match.calibration import ImpostorTail
from edge.records import WatchlistEntry
from edge.sight.card import default_directory, split
from tests.faces import ROOT, needs_faces
from tests.sim.van import a_config, enrolled, watch

pytestmark = [needs_faces, pytest.mark.faces, pytest.mark.slow]

CLIPS = {
    "signer-0": ["again", "brother", "help", "no", "student", "yes"],
    "signer-1": ["sorry", "bird", "milk", "please", "thanks"],
    "signer-2": ["book", "learn", "school", "walk"],
    "signer-3": ["eat", "night", "sister"],
    "signer-4": ["hungry", "want"],
}
"""Signer by clip; of the first three, the first clip is the one that is enrolled from."""
ON_THE_LIST = ("signer-0", "signer-1", "signer-2")


@pytest.fixture(scope="module")
def threshold() -> float:
    """What is in force for one false alert in 6,000 with a list as short as this one."""
    pack = default_directory() / split(ModelsSection().embedder)[0]
    return ImpostorTail.load(pack).threshold(1 / 6000, len(ON_THE_LIST)).threshold


def video(clip: str) -> Path:
    return ROOT / "video" / "asl" / f"{clip}.mkv"


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> list[WatchlistEntry]:
    folder = tmp_path_factory.mktemp("signers")
    for signer in ON_THE_LIST:
        (folder / signer).mkdir()
        capture = cv2.VideoCapture(str(video(CLIPS[signer][0])))
        for number in range(int(capture.get(cv2.CAP_PROP_FRAME_COUNT))):
            good, picture = capture.read()
            if good and number % 10 == 0:
                cv2.imwrite(str(folder / signer / f"{number:03d}.png"), picture)
        capture.release()
    entries = enrolled(folder)
    assert [entry.reference for entry in entries] == list(ON_THE_LIST)
    return entries


@pytest.mark.parametrize("signer", ON_THE_LIST)
def test_a_signer_on_the_list_alerts_in_every_other_clip_and_only_in_her_own_name(
    signers: list[WatchlistEntry], threshold: float, signer: str
) -> None:
    for clip in CLIPS[signer][1:]:
        seen = watch(video(clip), signers, config=a_config(video(clip), threshold=threshold))
        assert set(seen.references) == {signer}, clip
        assert seen.totals.overdue == 0
        assert seen.totals.live == 0


@pytest.mark.parametrize("signer", ["signer-3", "signer-4"])
def test_a_signer_who_is_not_on_the_list_never_alerts(
    signers: list[WatchlistEntry], threshold: float, signer: str
) -> None:
    for clip in CLIPS[signer]:
        seen = watch(video(clip), signers, config=a_config(video(clip), threshold=threshold))
        assert seen.counts.embedded > 10, "the face was searched, and not only missed"
        assert seen.references == [], clip


def test_the_singer_alerts_on_the_stage_and_nobody_gets_a_wrong_name(tmp_path: Path) -> None:
    for portrait in (ROOT / "portraits").iterdir():
        person = tmp_path / portrait.stem.rstrip("2")
        person.mkdir(exist_ok=True)
        shutil.copy(portrait, person)
    clip = ROOT / "video" / "crowd" / "short_hamilton_clip.mp4"
    entries = enrolled(tmp_path)
    assert len(entries) == 4
    seen = watch(clip, entries, config=a_config(clip, detector="centerface:960x544-int8"))
    # The pianist is on the stage too; the two presidents are not.
    assert "lin-manuel-miranda" in seen.references
    assert set(seen.references) <= {"lin-manuel-miranda", "alex-lacamoire"}
