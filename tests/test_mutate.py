"""The tool that breaks the code on purpose: which changes it makes, which it leaves alone, and that it sees them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "mutate"


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    loader = SourceFileLoader("mutate_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("mutate_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate_script"] = module  # its dataclasses look themselves up
    loader.exec_module(module)
    return module


CHANGES = {
    "a = b < c": {"a = b <= c", "a = b >= c"},
    "a = b is None": {"a = b is not None"},
    "a = b and c": {"a = b or c", "a = not b and c", "a = b and (not c)"},
    "if a:\n    b()": {"if not a:", "pass"},
    "LIMIT = 5000": {"LIMIT = 50000", "LIMIT = 500"},
    "FEW = 2": {"FEW = 3"},
    "a = min(b, c)": {"a = max(b, c)"},
    "def f():\n    a.flush()": {"pass"},
    "def f():\n    raise Refused(f'{5 + 4} of {a and b}')": {"pass"},
    "def f():\n    self.a = b": {"pass"},
    "def f():\n    return a": {"return None"},
    "PASS = (A, B)": {"PASS = (A,)", "PASS = (B,)"},
    "try:\n    pass\nexcept (A, B):\n    c = 1": {
        "except (A,): c = 1", "except (B,): c = 1", "except (A, B): raise", "c = 2",
    },
    "a = open(b, mode=c)": {"a = open(b)"},
    "class A:\n    b: Annotated[int, Meta(ge=1)] = 5": {
        "b: Annotated[int, Meta(ge=2)] = 5", "b: Annotated[int, Meta(ge=1)] = 6",
    },
}  # fmt: skip


@pytest.mark.parametrize("source", CHANGES)
def test_every_change_that_is_promised_is_made_and_no_other(source: str, mutate: ModuleType) -> None:
    found = {mutant.change.split(" → ", 1)[1] for mutant in mutate.mutants_of("m.py", source)}
    assert found == CHANGES[source]


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring with 5 words."""',
        "a = f'{5 + 4} of {b and c}'",
        "log.info('x', n=5)",
        "a = f'{b:.3f} and {5}'",
        "def f(a: Literal[5] = b) -> Literal[7]: ...",
        "__all__ = ['a', 'b']",
        "@dataclass(frozen=True, slots=True)\nclass A: ...",
        "class A:\n    def __init__(self):\n        self._lock = Lock()",
    ],
)
def test_wording_log_lines_and_what_mypy_sees_are_left_alone(source: str, mutate: ModuleType) -> None:
    assert mutate.mutants_of("m.py", source) == []


def test_a_mutant_is_the_whole_module_with_one_change(mutate: ModuleType) -> None:
    source = "A = 50\n\n\ndef f(b):\n    return b < A\n"
    sources = {mutant.source for mutant in mutate.mutants_of("m.py", source)}
    assert "A = 500\n\ndef f(b):\n    return b < A" in sources
    assert all(len(each.splitlines()) == 4 for each in sources)
    assert {(mutant.line, mutant.module) for mutant in mutate.mutants_of("m.py", source)} == {(1, "m.py"), (5, "m.py")}


def test_what_a_long_change_changes_is_shown(mutate: ModuleType) -> None:
    source = f"a = [{', '.join(f'name_{n}' for n in range(30))}, b < c]"
    shown = {
        mutant.change for mutant in mutate.mutants_of("m.py", source) if "≤" in mutant.change or "<" in mutant.change
    }
    assert any("[< → >=]" in change or "b <[ → =] c" in change for change in shown)
    assert all(len(change) < 120 for change in shown)


@pytest.mark.slow
def test_every_module_that_is_named_and_every_reason_is_of_this_tree(mutate: ModuleType) -> None:
    """What was renamed would silently no longer be broken."""
    assert [name for name in mutate.TESTS if not (ROOT / name).exists()] == []
    for tests in mutate.TESTS.values():
        assert [name for name in tests if not (ROOT / "tests" / name).exists()] == []
    changes = {
        (module, mutant.change)
        for module in mutate.TESTS
        for mutant in mutate.mutants_of(module, (ROOT / module).read_text("utf-8"))
    }
    excused = {(module, change) for module, each in mutate.EQUIVALENT.items() for change in each}
    assert excused - changes == set()


@pytest.mark.slow
def test_a_sample_is_the_same_each_time_and_tells_what_was_noticed() -> None:
    listed = [
        subprocess.run(
            [sys.executable, SCRIPT, "--list", "--sample", "3", "--seed", "5", "edge/trust/canonical.py"],
            check=True, capture_output=True, text=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert listed[0] == listed[1]
    assert len(listed[0].splitlines()) == 3
    done = subprocess.run(
        [sys.executable, SCRIPT, "--json", "--sample", "3", "--seed", "5", "edge/trust/canonical.py"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["mutants"] == found["modules"]["edge/trust/canonical.py"]["mutants"]
    assert found["mutants"] + len(found["equivalent"]) == 3
    assert found["mutants"] - len(found["survivors"]) > 0, "something is noticed"
