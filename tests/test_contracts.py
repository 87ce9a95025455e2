"""Who may import what, who may make threads, what does no input and output: each rule notices when it is broken."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(tree: Path) -> str:
    """What import-linter says of a tree, on one line."""
    done = subprocess.run(
        [LINT_IMPORTS, "--no-cache", "setup.cfg"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def lint(name: str, *arguments: str | Path, cwd: Path = ROOT) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / name, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the project's own contracts say of a copy of its code, with one wrong import in each of many modules."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("edge", "provisioning"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "scripts").mkdir()
    for file in ("scripts/contracts.py", "setup.cfg"):
        shutil.copy(ROOT / file, tree / file)
    for module, line in WRONG.items():
        path = (tree / module.replace(".", "/")).with_suffix(".py")
        path.write_text(path.read_text("utf-8") + f"\n{line}\n", "utf-8")
    return lint_imports(tree)


WRONG = {
    "edge.pipeline": "import hnswlib",
    "edge.match.template": "from hnswlib import Index",
    "edge.alert.submit": "import paho.mqtt.client",
    "edge.audit_trail": "from sqlcipher3 import dbapi2",
    "edge.watchlist.admission": "import sqlite3",
    "edge.sight.embed": "import ai_edge_litert.interpreter",
    "edge.appliance": "import systemd.daemon",
    "edge.deployment.gate": "import pyrage",
    "edge.bench": "import selenium",
    "edge.sight.track": "import threading",
    "edge.sight.quality": "import pathlib",
    "edge.sight.align": "import edge.sight.quality",
    "edge.match.decide": "import time",
    "edge.state": "import os",
    "edge.vanroot.floor": "import edge.errors",
    "edge.selftest": "import edge.vanroot.floor",
    "edge.commandline": "import edge.config",
    "edge.system.health": "import provisioning",
}


@pytest.mark.parametrize("module", WRONG)
def test_an_import_that_is_not_allowed_is_named(broken: str, module: str) -> None:
    imported = WRONG[module].split()[1]
    library = imported if imported.startswith(("edge", "provisioning")) else imported.split(".")[0]
    assert re.search(rf"{re.escape(module)} (\(line \d+\) imports|->) {re.escape(library)}\b", broken)


def test_a_library_without_an_owner_is_refused(broken: str) -> None:
    assert "imports selenium, which has no owner: name one in setup.cfg" in broken


def sample(folder: Path, contract: str, **modules: str) -> str:
    """What a contract says of a package of one's own."""
    (folder / "edge").mkdir()
    (folder / "edge" / "__init__.py").touch()
    for name, code in modules.items():
        (folder / "edge" / f"{name}.py").write_text(code)
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "contracts.py", folder / "scripts")
    head = "[importlinter]\nroot_package = edge\ninclude_external_packages = True\ncontract_types =\n"
    types = "    owners: scripts.contracts.Owners\n    imports_only: scripts.contracts.ImportsOnly\n"
    (folder / "setup.cfg").write_text(f"{head}{types}[importlinter:contract:one]\nname = One\n{contract}")
    return lint_imports(folder)


def test_an_owner_that_does_not_import_its_library_must_leave_the_list(tmp_path: Path) -> None:
    said = sample(
        tmp_path, "type = owners\nowners =\n    yaml <- edge.a\n     edge.b\neverywhere =\n    x", a="import yaml", b=""
    )
    assert "edge.b is named as an owner of yaml and does not import it" in said
    assert "edge.a is named" not in said


def test_an_owner_may_lie_in_a_package_that_owns(tmp_path: Path) -> None:
    assert "One KEPT" in sample(
        tmp_path, "type = owners\nowners =\n    yaml <- edge\neverywhere =\n    x", a="import yaml"
    )


def test_an_import_inside_a_function_counts(tmp_path: Path) -> None:
    code = "def read():\n    import yaml\n    return yaml"
    said = sample(tmp_path, "type = owners\nowners =\n    yaml <-\neverywhere =\n    x", a=code)
    assert "edge.a (line 2) imports yaml, which belongs to nobody" in said


def test_a_list_of_imports_holds_nothing_that_nobody_imports(tmp_path: Path) -> None:
    contract = "type = imports_only\nmodules =\n    edge.a\n    edge.gone\nmay_import =\n    math\n    os"
    said = sample(tmp_path, contract, a="import math")
    assert "os is on the list and none of the modules imports it" in said
    assert "edge.gone: there is no such module" in said
    assert "math is on the list" not in said


def test_no_contract_has_an_exception() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    contracts = {name: settings[name] for name in settings.sections() if name.startswith("importlinter")}
    assert len(contracts) > 5
    for name, contract in contracts.items():
        assert not {"ignore_imports", "unmatched_ignore_imports_alerting"} & set(contract), name


THREADS = {
    "import threading\nthreading.Thread(target=print).start()": "threading.Thread",
    "import threading as t\nt.Timer(1, print)": "threading.Timer",
    "from threading import Thread": "threading.Thread",
    "import _thread": "_thread",
    "from concurrent.futures import ThreadPoolExecutor": "concurrent.futures",
    "import asyncio\nasync def f():\n    asyncio.create_task(asyncio.to_thread(print))": "to_thread",
    "import asyncio\nasync def f():\n    later = asyncio.to_thread\n    await later(print)": "to_thread",
    "async def f(loop):\n    await loop.run_in_executor(None, print)": "run_in_executor",
    "from asyncio import to_thread": "asyncio.to_thread",
    "loop.run_in_executor(None, print)": "run_in_executor",
    "from starlette.concurrency import run_in_threadpool": "starlette.concurrency.run_in_threadpool",
    "from multiprocessing.pool import ThreadPool": "multiprocessing.pool.ThreadPool",
}


@pytest.mark.parametrize("code", THREADS)
def test_a_thread_outside_the_worker_is_refused(tmp_path: Path, code: str) -> None:
    (tmp_path / "van.py").write_text(code)
    status, said = lint("lint-threads", tmp_path)
    assert status == 1
    assert f": {THREADS[code]}: only edge/worker.py makes threads" in said


def test_what_is_waited_for_at_once_may_be_done_on_another_thread(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("import asyncio\nasync def f():\n    return await asyncio.to_thread(print)\n")
    assert lint("lint-threads", tmp_path) == (0, "")


def test_locks_events_and_processes_are_no_threads(tmp_path: Path) -> None:
    code = "import threading\nimport multiprocessing\nlock, event = threading.RLock(), threading.Event()\n"
    (tmp_path / "van.py").write_text(code + "pool = multiprocessing.Pool(2)\nthreading.current_thread()\n")
    assert lint("lint-threads", tmp_path) == (0, "")


IMPURE = {
    "import cv2\ncv2.VideoCapture(0)": "cv2.VideoCapture",
    "import cv2\ncv2.imwrite('x', y)": "cv2.imwrite",
    "from cv2 import imread": "cv2.imread",
    "import numpy as np\nnp.load('x')": "np.load",
    "import numpy as np\nnp.ones(3).tofile('x')": ".tofile",
    "open('/etc/passwd')": "open",
    "from edge.clock import NS_PER_S, SystemClock": "edge.clock.SystemClock",
    "from edge.config import load": "edge.config.load",
}


@pytest.mark.parametrize("code", IMPURE)
def test_a_pure_module_that_reads_writes_or_looks_at_a_clock_is_refused(tmp_path: Path, code: str) -> None:
    tree = tmp_path / "tree"
    (tree / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "lint-pure", tree / "scripts")
    shutil.copy(ROOT / "setup.cfg", tree)
    for module in ("sight/track", "sight/quality", "sight/align", "match/decide", "state"):
        (tree / "edge" / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "edge" / f"{module}.py", tree / "edge" / f"{module}.py")
    run = [sys.executable, tree / "scripts" / "lint-pure"]
    assert subprocess.run(run, check=False, capture_output=True).returncode == 0
    with (tree / "edge" / "match" / "decide.py").open("a") as file:
        file.write(f"\n{code}\n")
    done = subprocess.run(run, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f": {IMPURE[code]} in a module that must be pure" in done.stdout
