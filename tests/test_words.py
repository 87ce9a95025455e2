"""What the software says to people: plain words, and nothing to do that the reader cannot do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import errors
from edge.errors import AuthorityMissing, ConfigInvalid, EdgeError, ModelNotNamed, RecordInvalid, for_crew

ROOT = Path(__file__).parents[1]
HARD = re.compile(
    r"\b[Mm]end(s|ed|ing)?\b|(?<!there )\b(is|are) no (?!longer)|\bis none\b|\bthe way to the control room\b|"
    r"\bcannot be had\b|\bhave parted\b"
)
"""Turns that a constable would have to read twice."""
COMMANDS = re.compile(r"\blfr-(edge|provision|control)\b|\bsystemctl\b|\bchmod\b|\bpip\b|\bdocs/|\b[a-z]+\.[a-z]+\b")
"""What a crew in a van has no keyboard for: a command, a configuration key, a file of the documents."""


def _classes() -> dict[str, type[EdgeError]]:
    return {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EdgeError)}


def _errors() -> Iterator[tuple[str, str, list[str]]]:
    """Place, class and the three clauses of every error that is made in the tree; what is filled in is left out."""
    for folder in ("edge", "provisioning"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and len(node.args) == 3:
                    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    if name[:1].isupper() and (name in _classes() or name.endswith(("Unusable", "Refused", "Failed"))):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", name, [_literal(each) for each in node.args]


def _literal(node: ast.expr) -> str:
    """The text that is written in the source, without what is filled in when it is said."""
    return " ".join(str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant) and part.value != "")


def test_the_tree_is_read() -> None:
    assert len(list(_errors())) > 300


def test_every_error_says_it_in_words_that_are_understood_at_first_reading() -> None:
    hard = [f"{where}: {' | '.join(said)}" for where, _, said in _errors() if HARD.search(" ".join(said))]
    assert hard == []


@pytest.mark.parametrize("page", ["van-crew", "control-room", "overseer", "intelligence-unit", "authorising-officer"])
def test_so_do_the_pages_for_people(page: str) -> None:
    lines = (ROOT / "docs" / f"{page}.md").read_text().splitlines()
    assert [line for line in lines if HARD.search(line)] == []


def test_what_a_crew_is_told_to_do_needs_no_keyboard() -> None:
    told = [
        f"{where}: {said[2]}"
        for where, name, said in _errors()
        if name in _classes() and _classes()[name].crew_can and where.startswith("edge/")
        if "the engineer" not in said[2] and COMMANDS.search(said[2])
    ]
    assert told == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ConfigInvalid("lfr.toml: key camera.sauce", "is unknown", "Did you mean source"),
            "lfr.toml: key camera.sauce: is unknown. Call the engineer, who can do this: did you mean source.",
        ),
        (AuthorityMissing("the deployment", "nobody has authorised it", "Plug in the stick"), None),
        (ModelNotNamed("the list", "is of another model", "Ask the intelligence unit for another"), None),
        (RecordInvalid("Frame.index", "must be positive", errors.SOFTWARE_FAULT), None),
    ],
    ids=["the engineer's", "the crew's", "somebody else's", "a fault"],
)
def test_the_crew_is_told_to_call_the_engineer_where_only_the_engineer_can_do_it(
    error: EdgeError, said: str | None
) -> None:
    assert for_crew(error) == (said or str(error))
