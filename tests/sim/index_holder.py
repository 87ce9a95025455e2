"""A process that builds an index, lets somebody leave, and erases it, and says on standard output how far it is."""

from __future__ import annotations

import sys

import numpy as np

from edge.match.index import Index


def main(people: int, seed: int) -> None:
    def pause(where: str) -> None:
        print(where, flush=True)
        sys.stdin.readline()

    rows = np.random.default_rng(seed).standard_normal((people, 192), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = Index([str(number) for number in range(people)], rows, method="exact")
    index.remove("7")
    pause("holding")
    index.erase()
    del index, rows
    pause("erased")


main(int(sys.argv[1]), int(sys.argv[2]))
