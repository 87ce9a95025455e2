"""Known weaknesses: found where they are, taken over from osv.dev's records, and never hidden by a date."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from provisioning.image import lock

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "provisioning" / "vulnerabilities.toml"
TODAY = datetime.now(UTC).date()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "vulnerabilities", *arguments], capture_output=True, text=True, check=False
    )


def written(path: Path, compared: object = TODAY, **weakness: str) -> Path:
    rows = "".join(f'{name} = "{value}"\n' for name, value in weakness.items())
    path.write_text(f"compared = {compared}\n" + (f"[[weakness]]\n{rows}" if rows else ""))
    return path


def numpy(fixed: str, **more: str) -> dict[str, str]:
    return {"id": "CVE-0", "package": "numpy", "introduced": "0", "fixed": fixed, "summary": "adds up wrongly", **more}


def test_nothing_that_we_install_or_allow_is_known_to_be_vulnerable() -> None:
    done = run()
    assert done.returncode == 0, done.stdout


def test_a_version_that_is_locked_or_allowed_before_the_first_good_one_is_named(tmp_path: Path) -> None:
    done = run("--file", written(tmp_path / "v.toml", **numpy("99")))
    assert done.returncode == 1
    assert "CVE-0: numpy 2" in done.stdout
    assert "install 99 or later" in done.stdout
    assert run("--file", written(tmp_path / "v.toml", **numpy("2.0"))).returncode == 0


def test_one_without_a_good_version_is_named_until_somebody_says_why_we_live_with_it(tmp_path: Path) -> None:
    done = run("--file", written(tmp_path / "v.toml", **numpy("")))
    assert done.returncode == 1
    assert "no version is without it" in done.stdout
    done = run("--file", written(tmp_path / "v.toml", **numpy("", accepted="we never add up")))
    assert done.returncode == 0
    assert "accepted: we never add up" in done.stdout


@pytest.mark.parametrize(("days", "code"), [(30, 0), (31, 1)])
def test_a_release_wants_a_comparison_of_the_last_thirty_days(days: int, code: int, tmp_path: Path) -> None:
    file = written(tmp_path / "v.toml", TODAY - timedelta(days=days))
    assert run("--file", file).returncode == 0
    assert run("--release", "--file", file).returncode == code


def test_a_release_wants_some_comparison(tmp_path: Path) -> None:
    (tmp_path / "v.toml").write_text("")
    done = run("--release", "--file", tmp_path / "v.toml")
    assert done.returncode == 1
    assert "never compared with osv.dev" in done.stdout


RECORD = {
    "id": "GHSA-x", "aliases": ["CVE-2030-1"], "summary": "a hole", "affected": [
        {"package": {"name": "numpy", "ecosystem": "PyPI"}, "ranges": [
            {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.5"}, {"introduced": "2.0"}]},
            {"type": "GIT", "events": [{"introduced": "abc"}]},
        ]},
        {"package": {"name": "another", "ecosystem": "PyPI"}, "ranges": []},
    ],
}  # fmt: skip
"""In the form of the OSV schema 1.x, as the service answers."""


@pytest.fixture
def service() -> Iterator[str]:
    """Answers as osv.dev's ``/v1/query`` does: one record for numpy, an empty object for everything else."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
            known = {"vulns": [RECORD]} if asked["package"]["name"] == "numpy" else {}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(known).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_an_update_takes_the_service_s_records_over_and_keeps_what_people_wrote(tmp_path: Path, service: str) -> None:
    file = tmp_path / "v.toml"
    shutil.copy(FILE, file)
    before = tomllib.loads(file.read_text())["weakness"]
    assert run("--update", "--service", service, "--file", file).returncode == 1
    after = tomllib.loads(file.read_text())
    assert after["compared"] == TODAY
    mine = [each for each in after["weakness"] if each["package"] == "numpy"]
    assert [(each["id"], each["introduced"], each["fixed"]) for each in mine] == [
        ("CVE-2030-1", "0", "1.5"), ("CVE-2030-1", "2.0", ""),
    ]  # fmt: skip
    assert len(after["weakness"]) == len(before) + 2
    file.write_text(file.read_text().replace('introduced = "2.0"', 'introduced = "2.0"\naccepted = "we never add up"'))
    assert run("--update", "--service", service, "--file", file).returncode == 0
    assert 'accepted = "we never add up"' in file.read_text()


def test_a_service_that_does_not_answer_changes_nothing(tmp_path: Path) -> None:
    file = written(tmp_path / "v.toml", **numpy("2.0"))
    before = file.read_text()
    done = run("--update", "--service", "http://127.0.0.1:9/v1", "--file", file)
    assert done.returncode == 5
    assert "Nothing was changed" in done.stderr
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("files", "extras"),
    [((lock.WHEEL_LOCK, lock.SOURCE_LOCK), ()), ((lock.PC_WHEEL_LOCK, lock.PC_SOURCE_LOCK), ("office",))],
    ids=["the van", "control room and office"],
)
def test_the_locks_name_what_setup_cfg_asks_for(files: tuple[Path, Path], extras: tuple[str, ...]) -> None:
    pins = {pin.name: pin.version for file in files for pin in lock.parse_requirements(file.read_text())}
    for line in lock.wanted(ROOT, *extras):
        requirement = Requirement(line)
        assert pins.get(requirement.name.lower(), "none") in requirement.specifier, line
