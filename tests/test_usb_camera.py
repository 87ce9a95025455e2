"""A USB camera as V4L2 shows one: what it is asked for, what it gives, and what is said when that is less."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.sim.rtsp import street

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the camera is made with gcc"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="V4L2 is Linux's"),
]

WATCH = """
import json, sys, time
from pathlib import Path
from edge.clock import SystemClock
from edge.config import CameraSection
from edge.custody.retention import Custodian
from edge.sight.capture import Capture
from edge.worker import Supervisor

folder, settings, script = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
told, workers, custodian = [], Supervisor(), Custodian(SystemClock())
section = CameraSection(source="42", **{"reconnect_s": 1, "stall_s": 2, **settings})
capture = Capture(section, custodian, SystemClock(), turn=int(section.turn) if section.turn != "auto" else 0,
                  on_event=lambda what, why: told.append([what, why, round(time.monotonic() - since, 2)]))
since = time.monotonic()
capture.start(workers)
shape, frames = [], 0
def until(what):
    global shape, frames
    end = time.monotonic() + 15
    while time.monotonic() < end and what not in [each[0] for each in told]:
        capture.watch()
        frame = capture.next(0.05)
        if frame is not None:
            shape, frames = list(frame.pixels.array.shape), frames + 1
            frame.pixels.erase()
until("delivers")
for do, name, what in script:
    since = time.monotonic()
    if do == "touch": (folder / name).touch()
    if do == "remove": (folder / name).unlink()
    if do == "keep": [path.unlink() for path in folder.glob("*.jpg") if path.name != name]
    told.append(["--", do, 0])
    until(what)
for _ in range(3):
    frame = capture.next(2)
    if frame is not None:
        shape = list(frame.pixels.array.shape)
        frame.pixels.erase()
less = capture.shortfall
capture.stop()
print(json.dumps({"told": told, "shape": shape, "less": less, "failure": str(workers.failure or "")}))
"""
BEST = "MJPG:1920x1080@30,MJPG:640x480@30,YUYV:1920x1080@5,YUYV:1280x720@10,YUYV:640x480@30"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "camera.so"
    source = Path(__file__).parent / "sim" / "v4l2_camera.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True)
    return made


class Usb:
    """A camera that is plugged in, and a van's capture that watches it in a process of its own."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.folder = folder
        self._shim = shim
        self.modes = BEST
        for number in range(4):
            cv2.imwrite(str(folder / f"{number}.jpg"), cv2.resize(street(number), (1920, 1080), interpolation=0))

    def watched(self, *script: tuple[str, str, str], **settings: object) -> dict:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(self._shim),
            "CAMERA_MODES": self.modes,
            "CAMERA_FOLDER": str(self.folder),
        }
        done = subprocess.run(
            [sys.executable, "-c", WATCH, str(self.folder), json.dumps(settings), json.dumps(script)],
            env=environment, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict = json.loads(done.stdout.splitlines()[-1])
        assert found["failure"] == ""
        return found

    @property
    def asked(self) -> list[str]:
        """What it was asked for, step by step: the format and size that it chose for it, and pictures a second."""
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def usb(tmp_path: Path, shim: Path) -> Usb:
    return Usb(tmp_path, shim)


def test_left_alone_it_is_asked_for_its_large_picture_as_mjpg_and_not_for_its_small_default(usb: Usb) -> None:
    found = usb.watched()
    assert "MJPG 1920x1080 25" in usb.asked
    assert found["shape"] == [1080, 1920, 3]
    assert found["less"] == ""
    assert [what for what, _, _ in found["told"]] == ["delivers"]


def test_size_rate_and_format_are_asked_for_as_configured(usb: Usb) -> None:
    found = usb.watched(width=1280, height=720, max_fps=10, pixel_format="YUYV")
    assert "YUYV 1280x720 10" in usb.asked
    assert found["shape"] == [720, 1280, 3]
    assert found["less"] == ""


@pytest.mark.parametrize(
    ("modes", "settings", "less"),
    [
        (
            "YUYV:640x480@30",
            {},
            "gives 640x480 at 30 a second as YUYV, and 1920x1080 at 25 a second was asked for",
        ),
        (
            BEST,
            {"pixel_format": "YUYV"},
            "gives 1920x1080 at 5 a second as YUYV, and 1920x1080 at 25 a second as YUYV was asked for",
        ),
        (
            "YUYV:1920x1080@30",
            {"pixel_format": "MJPG"},
            "gives 1920x1080 at 30 a second as YUYV, and 1920x1080 at 25 a second as MJPG was asked for",
        ),
    ],
    ids=["a small picture", "too slow", "another format"],
)
def test_what_it_gives_instead_is_said_in_words(usb: Usb, modes: str, settings: dict, less: str) -> None:
    usb.modes = modes
    found = usb.watched(**settings)
    assert found["less"] == less
    (said,) = [why for what, why, _ in found["told"] if what == "less"]
    assert said == f"42 {less}. The engineer can set its size and rate."


@pytest.mark.parametrize(
    ("turn", "shape"), [("90", [1920, 1080, 3]), ("180", [1080, 1920, 3]), ("270", [1920, 1080, 3])]
)
def test_a_camera_that_hangs_on_its_side_is_turned_as_configured(usb: Usb, turn: str, shape: list[int]) -> None:
    assert usb.watched(turn=turn)["shape"] == shape


def test_unplugged_hung_and_frozen_are_named_in_time_and_over_without_a_hand(usb: Usb) -> None:
    found = usb.watched(
        ("touch", "hang", "lost"), ("remove", "hang", "back"), ("keep", "0.jpg", "unusable"), stall_s=2
    )  # fmt: skip
    told = [(what, why, after) for what, why, after in found["told"] if what != "--"]
    assert [what for what, _, _ in told] == ["delivers", "lost", "back", "unusable"]
    assert "frozen" in told[3][1]
    assert max(after for _, _, after in told[1:2] + told[3:]) <= 5.0


def test_a_camera_that_is_unplugged_is_lost_and_back_with_its_first_picture(usb: Usb) -> None:
    found = usb.watched(("touch", "gone", "lost"), ("remove", "gone", "back"))
    assert [what for what, _, _ in found["told"] if what != "--"] == ["delivers", "lost", "back"]
    assert found["shape"] == [1080, 1920, 3]
