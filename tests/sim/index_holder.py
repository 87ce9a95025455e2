"""A process that builds an index, lets somebody leave, and erases it, and says on standard output how far it is.

    python -m tests.sim.index_holder PEOPLE SEED [second]

With ``second`` the rows are those of two embedders, 192 and 128 numbers, as a van takes them from a list.
"""

from __future__ import annotations

import sys

import numpy as np

from edge.match.index import Index
from edge.match.relative import Relative
from edge.match.second import SecondOpinion, taken_apart
from tests.lists import joined_rows


def main(people: int, seed: int, *, second: bool) -> None:
    def pause(where: str) -> None:
        print(where, flush=True)
        sys.stdin.readline()

    names, opinion = [str(number) for number in range(people)], None
    if second:
        whole = joined_rows(people, seed)
        rows, theirs = taken_apart(whole, 192)
        del whole
    else:
        rows = np.random.default_rng(seed).standard_normal((people, 192), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = Index(names, rows, method="exact")
    if second:
        opinion = SecondOpinion(index, names, theirs, relative=Relative(), share=0.6)
        opinion.remove("7")
        del theirs
    index.remove("7")
    pause("holding")
    index.erase()
    if opinion is not None:
        opinion.erase()
    del index, rows, opinion
    pause("erased")


main(int(sys.argv[1]), int(sys.argv[2]), second="second" in sys.argv[3:])
