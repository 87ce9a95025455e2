"""Somebody who makes a stick with one of our labels, or changes one of ours, and has no key of the force."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from edge.config import DecisionSection, QualitySection, parse
from edge.deployment.gate import Gate, ListFacts
from edge.errors import RulesTooWeak
from edge.match.calibration import ImpostorTail, PassageRules
from edge.records import Limits
from edge.sight.card import default_directory
from edge.vanroot import answer as form
from edge.vanroot import compose, deploy, files, floor, medium, update
from tests.test_gate import AUTHORITY, HERE, LIST, NOW

ROOTFS = Path(__file__).parents[2] / "provisioning/image/rootfs"
UNITS = sorted((ROOTFS / "etc/systemd/system").glob("*.service"))
MOUNTS = sorted((ROOTFS / "etc/systemd/system").glob("run-lfr-*.mount"))
ANSWER = form.describe(
    form.Settings("van-7", "broker.example", 8883, fixed=(51.5, -0.1)),
    datetime.now(UTC),
    dict.fromkeys(form.FILES, b""),
)
GOOD = """
[deployment]
id = "D-1"
place = "Tower \\"Hill\\""
[camera]
source = "rtsp://camera.example/1"
max_fps = 12.5
[models]
second = "dlib-resnet:dynamic-int8"
threads = 1
[decision]
votes = 4
"""


def test_a_deployment_sets_what_it_may_and_the_rest_comes_from_image_and_enrolment() -> None:
    text, source = compose.compose(GOOD.encode(), ANSWER)
    config = parse(text)
    assert (config.deployment.id, config.deployment.place, source) == ("D-1", 'Tower "Hill"', config.camera.source)
    assert (config.camera.max_fps, config.models.threads, config.decision.votes) == (12.5, 1, 4)
    assert (config.van.id, config.alert.host, config.position.fixed) == ("van-7", "broker.example", (51.5, -0.1))
    assert (config.repository.root, config.watchlist.revokers) == ("/data/lfr/root.json", "/data/lfr/revokers.jwks")
    assert config.models.second == "dlib-resnet:dynamic-int8"  # the authority names the pair, or nobody is matched
    assert config.clock.require_confirmed
    assert config.memory.lock


def test_what_the_image_sets_no_deployment_may_set() -> None:
    allowed = {f"{table}.{key}" for table, keys in compose.ALLOWED.items() for key in keys}
    text, _ = compose.compose(b"", ANSWER)
    table = ""
    for line in text.splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        else:
            assert f"{table}.{line.partition(' =')[0]}" not in allowed


FORBIDDEN = [
    'van.id = "van-8"',
    'repository.root = "root.json"',
    'repository.source = "https://thief.example"',
    'watchlist.identity = "own.age.key"',
    'watchlist.revokers = "own.jwks"',
    'watchlist.folder = "/data/lfr/state"',
    'watchlist.device_secret = "x"',
    "position.fixed = [51.5, -0.1]",
    'position.gpsd = "thief.example:2947"',
    "clock.require_confirmed = false",
    'alert.ca = "own.crt"',
    'alert.host = "thief.example"',
    'alert.recipients = "own.jwks"',
    'alert.control_rooms = "own.jwks"',
    'alert.confirmed_by = "broker"',
    'alert.certificate_key = "/etc/shadow"',
    'store.directory = "/run"',
    "memory.lock = false",
    "quality.min_sharpness = 0.0",
    'models.directory = "."',
    'models.embedder = "own:own"',
    "detector.score = 0.0",
    'base = "/"',
    "camera.sauce = 1",
]


@pytest.mark.parametrize("line", FORBIDDEN)
def test_a_stick_that_sets_what_trust_rests_on_is_refused_by_the_keys_name(line: str, tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_bytes(ANSWER)
    (tmp_path / "lfr.toml").write_text(line)
    key = line.partition(" =")[0]
    with pytest.raises(ValueError, match=rf"^lfr\.toml sets {re.escape(key)}, which no deployment may set$"):
        deploy.check(tmp_path, tmp_path / "answer.json")


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (b"\xff\xfe", "cannot be read"),
        (b"x = " + b"[" * 50_000, "cannot be read"),
        (b"[[[", "cannot be read"),
        (b'camera.source = "../../data/lfr/van.key"', "neither a camera nor a file"),
        (b'camera.source = "/data/lfr/van.key"', "neither a camera nor a file"),
        (b'camera.source = ["a"]', "no number and no short text"),
        (b'deployment.id = """a\nb"""', "no number and no short text"),
        (b"camera.max_fps = inf", "no number and no short text"),
        (b"camera = 1", "lfr.toml sets camera"),
    ],
)
def test_a_configuration_that_is_none_is_refused(content: bytes, because: str) -> None:
    with pytest.raises(ValueError, match=because):
        compose.compose(content, ANSWER)


def test_a_van_that_is_not_enrolled_takes_no_deployment(tmp_path: Path) -> None:
    (tmp_path / "lfr.toml").write_text(GOOD)
    with pytest.raises(ValueError, match="not enrolled"):
        deploy.check(tmp_path, tmp_path / "answer.json")


# -- what is copied ------------------------------------------------------------------------------


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    made = tmp_path / "stick"
    (made / "repository/metadata").mkdir(parents=True)
    (made / "repository/metadata/1.root.json").write_text("{}")
    (made / "lfr.toml").write_text('[deployment]\nid = "D-1"\n[camera]\nsource = "street.mp4"\n')
    (made / "street.mp4").write_bytes(b"video")
    (tmp_path / "answer.json").write_bytes(ANSWER)
    (tmp_path / "ops").mkdir()
    (tmp_path / "secret").write_text("of the van")
    return made


def test_a_deployment_is_copied_with_its_repository_and_its_camera_and_nothing_else(stick: Path) -> None:
    (stick / "autorun.inf").write_text("x")
    here = stick.parent / "ops"
    deploy.take_in(stick, here, stick.parent / "answer.json")
    assert compose.source_of((here / "lfr.toml").read_bytes()) == "street.mp4"
    assert {str(p.relative_to(here)) for p in here.rglob("*") if p.is_file()} == {
        "repository/metadata/1.root.json",
        "lfr.toml",
        "street.mp4",
    }


def linked_file(stick: Path) -> None:
    (stick / "repository/metadata/timestamp.json").symlink_to(stick.parent / "secret")


def linked_folder(stick: Path) -> None:
    (stick / "repository/targets").symlink_to(stick.parent)


def linked_configuration(stick: Path) -> None:
    (stick / "lfr.toml").rename(stick / "elsewhere.toml")
    (stick / "lfr.toml").symlink_to("elsewhere.toml")


def linked_camera(stick: Path) -> None:
    (stick / "street.mp4").unlink()
    (stick / "street.mp4").symlink_to(stick.parent / "secret")


def linked_repository(stick: Path) -> None:
    (stick / "repository").rename(stick.parent / "repository")
    (stick / "repository").symlink_to(stick.parent / "repository")


def pipe(stick: Path) -> None:
    os.mkfifo(stick / "repository/metadata/timestamp.json")


def without_end(stick: Path) -> None:
    with (stick / "street.mp4").open("wb") as stream:
        stream.truncate(medium.LARGEST + 1)


def long_configuration(stick: Path) -> None:
    (stick / "lfr.toml").write_text("#" * (1 << 20))


def deep(stick: Path) -> None:
    (stick / "repository" / "/".join("a" * 10)).mkdir(parents=True)


def many(stick: Path) -> None:
    for number in range(medium.MOST):
        (stick / f"repository/{number}").touch()


@pytest.mark.parametrize(
    "attack",
    [
        linked_file, linked_folder, linked_configuration, linked_camera, linked_repository,
        pipe, without_end, long_configuration, deep, many,
    ],
)  # fmt: skip
def test_nothing_is_copied_through_links_or_without_bound(attack: Callable[[Path], None], stick: Path) -> None:
    attack(stick)
    here = stick.parent / "ops"
    with pytest.raises(OSError, match=r"."):
        deploy.take_in(stick, here, stick.parent / "answer.json")
    assert not (here / "lfr.toml").exists(), "without it the deployment is none"
    assert not any(b"of the van" in p.read_bytes() for p in here.rglob("*") if p.is_file())


# -- what is written -----------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    (made / "floor.json").write_text('{"version": "2.0", "epoch": 5}')
    (made / "ops.cred").write_bytes(b"the sealed key")
    return made


@pytest.mark.parametrize("name", ["floor.json", "ops.cred"])
def test_a_report_is_not_written_through_a_link_over_the_floor_or_the_sealed_key(name: str, state: Path) -> None:
    before = (state / name).read_bytes()
    report = state.parent / "report.json"
    report.symlink_to(state / name)
    files.write_new(report, b'{"version": "0", "epoch": 0}')
    assert (state / name).read_bytes() == before
    assert not report.is_symlink()


def test_a_floor_that_is_a_link_is_no_floor_and_nothing_is_installed_by_it(state: Path) -> None:
    (state / "floor.json").rename(state / "kept.json")
    (state / "low.json").write_text('{"version": "0", "epoch": 0}')
    (state / "floor.json").symlink_to(state / "low.json")
    with pytest.raises(OSError, match=r"."):
        floor.FloorStore(state / "floor.json").read()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{}", b"[]", b"\xff", b'{"version": "1", "epoch": null}'])
def test_a_floor_that_is_none_is_an_error_with_a_name_and_not_a_floor_of_nought(content: bytes, state: Path) -> None:
    (state / "floor.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        floor.FloorStore(state / "floor.json").read()


def test_what_the_service_points_elsewhere_is_not_given_to_it(state: Path) -> None:
    """A service that was taken over leaves a link in its folder for root to give away."""
    link = state.parent / "van.key"
    link.symlink_to(state / "floor.json")
    files.give(link, 990, 990)
    assert (state / "floor.json").stat().st_uid == os.getuid()


def test_a_large_bundle_is_not_read_into_memory_for_the_name_of_its_signer(tmp_path: Path) -> None:
    bundle = tmp_path / "big.raucb"
    with bundle.open("wb") as stream:
        stream.truncate(1 << 40)
    assert update.signer_names(bundle) == []


def test_root_writes_and_copies_in_one_way_only() -> None:
    """Whatever is written by name follows links; ``edge/vanroot/files.py`` and ``medium.py`` do not."""
    for path in (ROOTFS.parents[2] / "edge/vanroot").glob("*.py"):
        found = re.findall(
            r"\.write_(?:text|bytes)\(|shutil\.(?:copy\w*|chown)|os\.chown\((?!folder)", path.read_text()
        )
        assert found in ([], ["os.chown("] if path.name == "files.py" else []), path


# -- media and units -----------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("only root mounts")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_with_the_units_options_the_kernel_itself_follows_no_link_of_a_medium(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the van")
    options = next(line for line in MOUNTS[0].read_text().splitlines() if line.startswith("Options="))
    wanted = ",".join(w for w in options.removeprefix("Options=").split(",") if w not in {"ro", "umask=0022"})
    with mounted(tmp_path / "stick", wanted):
        link = tmp_path / "stick/report.json"
        link.symlink_to(tmp_path / "secret")
        with pytest.raises(OSError, match=r"symbolic links"):
            link.read_text()


@pytest.mark.parametrize("unit", MOUNTS, ids=lambda path: path.name)
def test_a_medium_is_mounted_as_fat_or_exfat_only(unit: Path) -> None:
    text = unit.read_text()
    assert "\nType=vfat,exfat\n" in text
    options = set(next(re.finditer(r"^Options=(.*)$", text, re.MULTILINE))[1].split(","))
    assert {"nosuid", "nodev", "noexec", "nosymfollow"} <= options


def test_a_file_system_of_another_kind_is_not_mounted_and_said_so() -> None:
    rules = (ROOTFS / "etc/udev/rules.d/90-lfr-sticks.rules").read_text().splitlines()
    for rule in rules:
        if any(name in rule for name in ("lfr-update", "lfr-deploy", "lfr-report")):
            assert 'ENV{ID_FS_TYPE}=="vfat|exfat"' in rule
    assert any('ENV{ID_FS_TYPE}!="vfat|exfat"' in rule and "lfr-unreadable" in rule for rule in rules)


def test_no_helper_mounts_a_medium_by_itself() -> None:
    for path in (ROOTFS.parents[2] / "edge/vanroot").glob("*.py"):
        assert not re.search(r"[\"'](mount|umount|unshare)[\"']", path.read_text()), path


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_every_unit_of_ours_is_sandboxed(unit: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_COLORS": "0"},
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= 2.0, done.stdout
    assert "ignoring" not in done.stderr


# -- what a deployment may set is judged ---------------------------------------------------------


def gate_of(text: str) -> tuple[Gate, str]:
    """The gate of a van with the shipped model and this configuration, and the model's digest."""
    config = parse('[van]\nid = "van-1"\n[deployment]\nid = "D-1"\n[camera]\nsource = "x"\n' + text)
    pack = default_directory() / "mobilefacenet"
    tail = ImpostorTail.load(pack)
    gate = Gate(
        "van-1",
        calibration=tail,
        weaker_rules=tail.rules.weaker(config.decision, config.quality),
        clock_floor=NOW - timedelta(days=9),
    )
    gate.load(json.dumps({**AUTHORITY, "model": tail.model_sha256, "budget_one_in": 1000}).encode())
    return gate, tail.model_sha256


def ask(text: str) -> None:
    gate, model = gate_of(text)
    gate.check(NOW, HERE, ListFacts(LIST, 500, 500), model=model, limits=Limits(0.9, 0.9))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[decision]\nvotes = 1\nwindow = 1", "decision.votes is 1"),
        ("[decision]\nvotes = 3\nwindow = 60", "decision.window is 60"),
        ("[quality]\nmin_eye_distance = 4", "quality.min_eye_distance is 4"),
        ("[quality]\nmin_sharpness = 0", "quality.min_sharpness is 0"),
        ("[quality]\nmin_brightness = 0", "quality.min_brightness is 0"),
        ("[quality]\nmin_score = 0", "quality.min_score is 0"),
        ("[quality]\nmax_yaw = 90", "quality.max_yaw is 90"),
        ("[quality]\nmax_pitch = 90", "quality.max_pitch is 90"),
        ("[quality]\nmax_brightness = 255", "quality.max_brightness is 255"),
    ],
)
def test_a_budget_for_two_of_five_good_faces_is_not_spent_on_less(text: str, key: str) -> None:
    with pytest.raises(RulesTooWeak, match=key):
        ask(text)


@pytest.mark.parametrize(
    "text", ["", "[decision]\nvotes = 4\nwindow = 4", "[quality]\nmin_sharpness = 40\nmax_yaw = 20"]
)
def test_whoever_asks_for_more_than_the_budget_needs_may_match(text: str) -> None:
    ask(text)


def test_the_shipped_calibration_names_every_limit_that_a_configuration_has() -> None:
    rules = ImpostorTail.load(default_directory() / "mobilefacenet").rules
    assert rules == PassageRules.of(DecisionSection(), QualitySection())
    assert {*msgspec.structs.asdict(QualitySection())} <= {*msgspec.structs.asdict(rules)}
