"""A van's process that holds a list, searches it, destroys it, and says on standard output how far it is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edge.match.index import Index
from tests.lists import Site, import_into


def main(folder: Path, bundle: Path, manifest: Path) -> None:
    def pause(where: str) -> None:
        print(where, flush=True)
        sys.stdin.readline()

    site = Site(folder)
    pause("ready")
    with site.audit() as audit:
        keeper = site.keeper(audit)
        import_into(keeper, site, (bundle, manifest.read_bytes()))
        matrix = keeper.open().matrix()
        index = Index(matrix.references, matrix.vectors, method="exact")
        probe = np.random.default_rng(1).standard_normal(192).astype(np.float32)
        for _ in range(5):
            index.search(probe / np.linalg.norm(probe))
        pause("holding")
        keeper.remove("R-3", "revoked")
        pause("removed")
        index.erase()
        del index, matrix
        keeper.destroy("end of the deployment")
        pause("destroyed")


main(*(Path(argument) for argument in sys.argv[1:4]))
