"""Search the list: exact by default, HNSW for very long lists, and never an alert on an unconfirmed score.

At the length of lawful lists an exact search costs less than embedding one face, finds every candidate
and can be erased in place. HNSW pays from tens of thousands of templates on; its candidates are then
re-scored against the stored templates, so that a similarity is always the true one. Why: see
``docs/decisions/0003-exact-search-first.md``.

hnswlib keeps vectors that are marked as deleted, and writes them with ``save_index`` and pickles. So an index
is never saved, and a subject who leaves the list is overwritten in place instead of marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import hnswlib
import numpy as np
from numpy.typing import NDArray

from edge.errors import RecordInvalid
from edge.records import Candidate, SearchResult

__all__ = ["Index"]

HNSW_M = 24
HNSW_EF_CONSTRUCTION = 200
HNSW_EF = 128
"""Candidates that the graph keeps in view while it searches: more find more and take longer. tests/test_index.py holds
what it finds against the exact search."""
HNSW_CANDIDATES = 16
REMOVED = ""
"""Stands in place of a subject who left the list; no reference is empty."""


class Index:
    """The list's templates in memory, searched for one probe at a time.

    Args:
        references: the subject of each row; a subject may have several rows.
        templates: ``(n, d)`` float32, rows of length 1. Adopted: the index owns and erases it.
        method: ``exact``, ``hnsw`` or ``auto``, which is exact up to ``exact_up_to`` rows.
        exact_up_to: see ``method``.

    Raises:
        RecordInvalid: wrong shape or dtype, or rows that are not of length 1.
    """

    def __init__(
        self,
        references: Sequence[str],
        templates: NDArray[np.float32],
        *,
        method: Literal["auto", "exact", "hnsw"] = "auto",
        exact_up_to: int = 20_000,
    ) -> None:
        if templates.ndim != 2 or templates.dtype != np.float32 or len(references) != len(templates):
            raise RecordInvalid(
                "the index's templates",
                f"must be float32[{len(references)}, d], got {templates.dtype}{list(templates.shape)}",
                "Build the list again",
            )
        lengths = np.linalg.norm(templates, axis=1)
        if len(templates) and not bool(np.all(np.abs(lengths - 1.0) < 1e-3)):
            raise RecordInvalid("the index's templates", "must have length 1", "Build the list again")
        self._references = list(references)
        self._templates = np.ascontiguousarray(templates)
        if not self._templates.flags.writeable:
            self._templates = self._templates.copy()
        self._graph: hnswlib.Index | None = None
        if len(templates) and (method == "hnsw" or (method == "auto" and len(templates) > exact_up_to)):
            self._graph = self._build_graph()

    def __len__(self) -> int:
        """How many templates are searched."""
        return sum(1 for name in self._references if name != REMOVED)

    def __repr__(self) -> str:
        return f"<Index of {len(self)} templates, {self.method}>"

    @property
    def method(self) -> str:
        return "exact" if self._graph is None else "hnsw"

    def _build_graph(self) -> hnswlib.Index:
        graph = hnswlib.Index(space="ip", dim=self._templates.shape[1])
        graph.init_index(
            max_elements=len(self._templates), M=HNSW_M, ef_construction=HNSW_EF_CONSTRUCTION, random_seed=100
        )
        graph.add_items(self._templates, np.arange(len(self._templates)))
        graph.set_ef(HNSW_EF)
        return graph

    def search(self, probe: NDArray[np.float32], k: int = 3) -> SearchResult:
        """The ``k`` most similar subjects, best first.

        Args:
            probe: ``(d,)`` float32 of length 1.
            k: at most so many candidates, one per subject.

        Raises:
            RecordInvalid: the probe has another dimension than the list.
        """
        if not len(self._templates):
            return SearchResult((), exact=True)
        if probe.shape != (self._templates.shape[1],):
            raise RecordInvalid(
                "the probe",
                f"has shape {list(probe.shape)}, the list {[self._templates.shape[1]]}",
                "Build the list with the model that the van runs",
            )
        if self._graph is None:
            similarities = self._templates @ probe
            count = min(len(similarities), max(HNSW_CANDIDATES, 4 * k))
            rows = np.argpartition(similarities, -count)[-count:]
            scores = similarities[rows]
        else:
            count = min(len(self._templates), max(HNSW_CANDIDATES, 4 * k))
            labels, _ = self._graph.knn_query(probe[None, :], k=count, num_threads=1)
            rows = labels[0].astype(np.int64)
            scores = self._templates[rows] @ probe
        best: dict[str, float] = {}
        for position in np.argsort(-scores, kind="stable"):
            best.setdefault(self._references[int(rows[position])], float(scores[position]))
        best.pop(REMOVED, None)
        ranked = tuple(Candidate(reference, score) for reference, score in list(best.items())[:k])
        return SearchResult(ranked, exact=self._graph is None)

    def remove(self, reference: str) -> int:
        """Never find ``reference`` again: its templates are overwritten where they lie. Returns how many there were.

        Takes the same short time for a list of any length: nothing is built again. A row of zeros resembles
        nobody, and its name is gone.
        """
        rows = np.array([row for row, name in enumerate(self._references) if name == reference], np.int64)
        if len(rows):
            self._templates[rows] = 0
            if self._graph is not None:
                # Adding an existing label again overwrites its vector where it lies.
                self._graph.add_items(self._templates[rows], rows)
            for row in rows:
                self._references[row] = REMOVED
        return len(rows)

    def erase(self) -> None:
        """Overwrite every template, in the matrix and in the graph, and hold nothing any more."""
        self._templates.fill(0)
        if self._graph is not None:
            self._graph.set_ef(1)
            self._graph.add_items(self._templates, np.arange(len(self._templates)))
            self._graph = None
        self._references = []
        self._templates = np.zeros((0, self._templates.shape[1]), np.float32)
