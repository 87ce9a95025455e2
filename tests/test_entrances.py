"""Whatever a stranger's bytes are, every parser answers with the errors that it promises, saying nothing of theirs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.entrances import ENTRANCES, Entrance
from tests.mangle import mangled

CORPUS = Path(__file__).parent / "corpus"
TIMES = 150
every = pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda entrance: entrance.name)


@every
def test_a_good_example_is_taken(entrance: Entrance, tmp_path: Path) -> None:
    for example in entrance.examples:
        entrance.feed(example, tmp_path)


@every
def test_examples_that_were_made_bad_are_refused_as_promised(entrance: Entrance, tmp_path: Path) -> None:
    chance = random.Random(7)
    seen: set[bytes] = set()
    for number in range(TIMES):
        content = mangled(entrance.examples[number % len(entrance.examples)], entrance.form, chance)
        seen.add(content)
        entrance.try_out(content, tmp_path)
    assert len(seen) > TIMES // 3, "the same again and again"


@every
def test_what_was_found_before_is_refused_as_promised(entrance: Entrance, tmp_path: Path) -> None:
    for path in sorted((CORPUS / entrance.name).glob("*")):
        entrance.try_out(path.read_bytes(), tmp_path)


def test_the_corpus_holds_nothing_for_an_entrance_that_is_gone() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= {entrance.name for entrance in ENTRANCES}
