"""A configuration file says what is wrong with it, by the key's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge import config
from edge.errors import ConfigInvalid

GOOD = """
[van]
id = "van-1"
[deployment]
id = "op-1"
[camera]
source = "street.avi"
"""


def test_a_short_file_is_enough_and_paths_start_from_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "lfr.toml"
    file.write_text(GOOD)
    loaded = config.load(file)
    assert loaded.path(loaded.watchlist.folder) == tmp_path / "lists"
    assert loaded.source() == str(tmp_path / "street.avi")


@pytest.mark.parametrize("source", ["rtsp://camera/1", "/dev/video0", "0"])
def test_devices_and_addresses_are_no_paths(source: str) -> None:
    assert config.parse(GOOD.replace("street.avi", source), base="/somewhere").source() == source


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (GOOD + "fsp = 3", ["camera.fsp", "unknown", "max_fps"]),
        (GOOD + "[decision]\nthreshhold = 0.5", ["decision.threshhold", "unknown", "Did you mean threshold"]),
        (GOOD + "[surprise]\nx = 1", ["surprise", "unknown"]),
        (GOOD + '[decision]\nthreshold = "high"', ["decision.threshold"]),
        (GOOD + "[decision]\nthreshold = 1.5", ["decision.threshold", "1.0"]),
        (GOOD + "[decision]\nvotes = 6\nwindow = 5", ["decision.votes", "window"]),
        (GOOD.replace('id = "van-1"', 'id = "van 1"'), ["van.id"]),
        (GOOD.replace('id = "van-1"', ""), ["van.id", "missing"]),
        (GOOD + "[[", ["not valid TOML"]),
        ('base = "/"' + GOOD, ["base", "unknown"]),
    ],
    ids=[
        "typing error", "near miss", "unknown table", "wrong type", "out of range", "votes beyond window",
        "not a name", "missing", "no TOML", "internal key",
    ],
)  # fmt: skip
def test_the_key_at_fault_is_named(text: str, names: list[str]) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        config.parse(text, name="lfr.toml")
    message = str(caught.value)
    assert message.startswith("lfr.toml")
    assert all(name in message for name in names), message
    assert "\n" not in message
    assert caught.value.exit_code == 4


def test_a_missing_file_and_a_binary_file_are_plain_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        config.load(tmp_path / "none.toml")
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        config.load(tmp_path / "picture.toml")
