"""Search the list: exact by default, HNSW for very long lists, and never an alert on an unconfirmed score.

At the length of lawful lists an exact search costs less than embedding one face, finds every candidate
and can be erased in place. HNSW pays from tens of thousands of templates on; its candidates are then
re-scored against the stored templates, so that a similarity is always the true one. Why: see
``docs/decisions/0003-exact-search-first.md``.

A candidate has two figures: the similarity, which is the cosine, and the score, which is how far that stands out from
this list (:mod:`edge.match.relative`). Candidates are ranked by the score. A subject with several pictures is compared
with each and with their mean, and the best counts.

hnswlib keeps vectors that are marked as deleted, and writes them with ``save_index`` and pickles. So an index
is never saved, and a subject who leaves the list is overwritten in place instead of marked.

Subjects who are probably one person under several references (:mod:`edge.match.doubles`) are told by the best of their
rows, and are no neighbours of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import hnswlib
import numpy as np
from numpy.typing import NDArray

from edge.errors import SOFTWARE_FAULT, RecordInvalid
from edge.match.doubles import Doubles, among_pictures
from edge.match.relative import Relative, unit_means
from edge.records import Candidate, SearchResult

__all__ = ["Index"]

HNSW_M = 24
HNSW_EF_CONSTRUCTION = 200
HNSW_EF = 128
"""Candidates that the graph keeps in view while it searches: more find more and take longer. tests/test_index.py holds
what it finds against the exact search."""
HNSW_CANDIDATES = 48
"""Subjects whose rows the graph is asked for: the nearest others of a score lie among them."""
REMOVED = ""
"""Stands in place of a subject who left the list; no reference is empty."""


class Index:
    """The list's templates in memory, searched for one probe at a time.

    Args:
        references: the subject of each row; a subject may have several rows.
        templates: ``(n, d)`` float32, rows of length 1. Adopted: the index owns and erases it.
        method: ``exact``, ``hnsw`` or ``auto``, which is exact up to ``exact_up_to`` rows.
        exact_up_to: see ``method``.
        relative: how scores are made of similarities; as the embedder's tail was measured.
        doubles: who is probably one person, where another index of the same subjects has said so; copied.

    Raises:
        RecordInvalid: wrong shape or dtype, rows that are not of length 1, or too many references of one person.
    """

    def __init__(
        self,
        references: Sequence[str],
        templates: NDArray[np.float32],
        *,
        method: Literal["auto", "exact", "hnsw"] = "auto",
        exact_up_to: int = 20_000,
        relative: Relative | None = None,
        doubles: Doubles | None = None,
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
        self._relative = relative or Relative()
        self._references = list(dict.fromkeys(references))
        self._pictures = dict.fromkeys(self._references, 0)
        for reference in references:
            self._pictures[reference] += 1
        self._arrange(references, templates)
        self._gone = np.zeros(len(self._references), np.bool_)
        self._graph: hnswlib.Index | None = None
        if len(templates) and (method == "hnsw" or (method == "auto" and len(templates) > exact_up_to)):
            self._graph = self._build_graph()
        self._likeness, self._least, self._doubles = self._all_neighbours(doubles)

    def _arrange(self, references: Sequence[str], templates: NDArray[np.float32]) -> None:
        """Rows of one subject beside each other, and the mean of several behind them."""
        count = len(self._references)
        if count == len(templates):
            self._rows = np.ascontiguousarray(templates)
            if not self._rows.flags.writeable:
                self._rows = self._rows.copy()
            self._starts = np.arange(count)
            self._means = self._rows
        else:
            number = {reference: at for at, reference in enumerate(self._references)}
            owner = np.array([number[reference] for reference in references], np.int64)
            order = np.argsort(owner, kind="stable")
            pictures = np.bincount(owner)
            firsts = np.concatenate([[0], np.cumsum(pictures)[:-1]])
            sorted_rows = templates[order]
            self._means = unit_means(sorted_rows, firsts)
            # One picture is its own mean and has no second row.
            size = np.where(pictures > 1, pictures + 1, 1)
            self._starts = np.concatenate([[0], np.cumsum(size)[:-1]])
            self._rows = np.empty((int(size.sum()), templates.shape[1]), np.float32)
            self._rows[self._starts + size - 1] = self._means
            self._rows[np.arange(len(templates)) + self._starts[owner[order]] - firsts[owner[order]]] = sorted_rows
            sorted_rows.fill(0)
            if templates.flags.writeable:
                templates.fill(0)
        sizes = np.diff(np.append(self._starts, len(self._rows)))
        # A person with many pictures must not fill all the places.
        self._asked = min(len(self._rows), int(sizes.max(initial=1)) * max(HNSW_CANDIDATES, 4 * self._relative.nearest))
        self._is_mean = np.zeros(len(self._rows), np.bool_)
        self._is_mean[self._starts + sizes - 1] = True
        self._owner = np.repeat(np.arange(count), sizes)

    def __len__(self) -> int:
        """How many subjects are searched for."""
        return len(self._pictures)

    @property
    def pictures(self) -> int:
        """How many pictures of them."""
        return sum(self._pictures.values())

    def __repr__(self) -> str:
        return f"<Index of {len(self)} subjects, {self.method}>"

    @property
    def method(self) -> str:
        return "exact" if self._graph is None else "hnsw"

    def _build_graph(self) -> hnswlib.Index:
        graph = hnswlib.Index(space="ip", dim=self._rows.shape[1])
        graph.init_index(max_elements=len(self._rows), M=HNSW_M, ef_construction=HNSW_EF_CONSTRUCTION, random_seed=100)
        graph.add_items(self._rows, np.arange(len(self._rows)))
        graph.set_ef(max(HNSW_EF, self._asked))
        return graph

    def search(self, probe: NDArray[np.float32], k: int = 3) -> SearchResult:
        """The ``k`` subjects who stand out most, best first.

        Args:
            probe: ``(d,)`` float32 of length 1.
            k: at most so many candidates, one per subject.

        Raises:
            RecordInvalid: the probe has another dimension than the list.
        """
        if not len(self._rows):
            return SearchResult((), exact=True)
        self._check(probe)
        subjects, cosines, doubles = None, None, self._doubles
        if self._graph is not None:
            subjects, cosines = self._near(self._graph, probe)
            doubles = self._doubles.among(subjects)
            # Where one person takes so many places that too few others are in sight, all are looked at.
            most = max((len(doubles.of(at)) for at in doubles), default=0)
            if most and len(subjects) - 1 - most < self._relative.nearest:
                subjects, cosines, doubles = None, None, self._doubles
        if cosines is None:
            cosines = self._all(probe)
        if len(self._pictures) < len(self._references):
            cosines[self._gone if subjects is None else self._gone[subjects]] = -np.inf
        likeness = self._likeness if subjects is None else self._likeness[subjects]
        scores = self._relative.ranking(cosines, likeness, doubles)
        ranked = []
        for _ in range(min(k, len(scores))):
            at = int(scores.argmax())
            if not np.isfinite(scores[at]):
                break
            name = self._references[at if subjects is None else subjects[at]]
            ranked.append(Candidate(name, float(cosines[at]), float(scores[at])))
            scores[at] = -np.inf
        return SearchResult(tuple(ranked), exact=subjects is None)

    def scores_of(self, references: Sequence[str], probe: NDArray[np.float32]) -> list[float]:
        """The scores of some subjects, whoever else stands out more.

        Args:
            references: who are on the list.
            probe: ``(d,)`` float32 of length 1.

        Raises:
            RecordInvalid: the probe has another dimension than the list, or a reference is not on it.
        """
        self._check(probe)
        missing = [reference for reference in references if reference not in self._pictures]
        if missing:
            raise RecordInvalid(
                "the second opinion", f"was asked about {missing[0]}, who is not listed", SOFTWARE_FAULT
            )
        if not references:
            return []
        cosines = self._all(probe)
        cosines[self._gone] = -np.inf
        scores = self._relative.scores(cosines[None], self._likeness, self._doubles)[0]
        return [float(scores[self._references.index(reference)]) for reference in references]

    @property
    def doubles(self) -> Doubles:
        """Who is probably one person, by the subjects' numbers in the order of the references."""
        return self._doubles

    def _check(self, probe: NDArray[np.float32]) -> None:
        if probe.shape != (self._rows.shape[1],):
            raise RecordInvalid(
                "the probe",
                f"has shape {list(probe.shape)}, the list {[self._rows.shape[1]]}",
                "Build the list with the model that the van runs",
            )

    def _all(self, probe: NDArray[np.float32]) -> NDArray[np.float32]:
        """The best cosine of every subject."""
        cosines = self._rows @ probe
        if len(cosines) > len(self._references):
            cosines = np.maximum.reduceat(cosines, self._starts)
        return np.asarray(cosines)

    def _near(self, graph: hnswlib.Index, probe: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The subjects whom the graph finds near, and the best cosine of each."""
        rows, _ = self._around(graph, probe)
        subjects, which = np.unique(self._owner[rows], return_inverse=True)
        cosines = np.full(len(subjects), -np.inf, np.float32)
        found = self._rows[rows]
        np.maximum.at(cosines, which, found @ probe)
        found.fill(0)
        return subjects, cosines

    def _all_neighbours(self, given: Doubles | None) -> tuple[NDArray[np.float32], NDArray[np.float32], Doubles]:
        """What :meth:`_neighbours` says of every subject, and who are doubles, unless another index has said so."""
        everybody = np.arange(len(self._means))
        if given is not None:
            return *self._relative.neighbours(self._means, everybody, given), given.copy()
        if self._graph is not None:
            doubles = Doubles()
            likeness, least = self._by_graph(self._graph, everybody, doubles, find=True)
            lacked = doubles.complete()
            likeness[lacked], least[lacked] = self._by_graph(self._graph, lacked, doubles, find=False)
            return likeness, least, doubles
        if self._means is self._rows:
            return self._relative.of_list(self._rows)
        doubles = among_pictures(self._rows, self._starts, self._owner, self._relative.one_person)
        return *self._relative.neighbours(self._means, everybody, doubles), doubles

    def _neighbours(self, subjects: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What these subjects have of likeness to others on the list, and what must be exceeded to change it."""
        if self._graph is None:
            return self._relative.neighbours(self._means, subjects, self._doubles)
        return self._by_graph(self._graph, subjects, self._doubles, find=False)

    def _by_graph(
        self, graph: hnswlib.Index, subjects: NDArray[np.int64], doubles: Doubles, *, find: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        nearest = self._relative.nearest
        highest = np.zeros((len(subjects), nearest), np.float32)
        out_of_sight = []
        for at, subject in enumerate(subjects.tolist()):
            rows, cosines = self._around(graph, self._means[subject])
            if find:
                doubles.add(subject, self._same(graph, subject, rows, cosines))
            others = self._is_mean[rows] & (self._owner[rows] != subject) & (cosines > 0)
            if len(same := doubles.of(subject)):
                others &= ~np.isin(self._owner[rows], same)
                if others.sum() < nearest and cosines[-1] > 0:
                    out_of_sight.append(at)
            found = cosines[others][:nearest]  # the most alike first
            highest[at, : len(found)] = found
        likeness, least = highest.sum(1) / nearest, highest.min(1)
        # Where one person takes so many places that too few others are in sight, all are looked at.
        behind = np.array(out_of_sight, np.int64)
        likeness[behind], least[behind] = self._relative.neighbours(self._means, subjects[behind], doubles)
        return likeness, least

    def _around(
        self, graph: hnswlib.Index, vector: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows that the graph finds near, and the cosine of each, the most alike first."""
        labels, distances = graph.knn_query(vector[None, :], k=self._asked, num_threads=1)
        return labels[0].astype(np.int64), 1 - distances[0]

    def _same(
        self, graph: hnswlib.Index, subject: int, rows: NDArray[np.int64], cosines: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Who is probably the same person as this subject, round whose mean these rows were found."""
        first, mean = int(self._starts[subject]), self._mean_row(subject)
        near, alike = [], self._relative.one_person
        for row in range(first, mean + 1):
            found, how = (rows, cosines) if row == mean else self._around(graph, self._rows[row])
            same = found[how >= alike]
            if len(same) == len(found) < len(self._rows):
                same = np.flatnonzero(self._rows @ self._rows[row] >= alike)  # there may be more out of sight
            near.append(self._owner[same])
        return np.setdiff1d(np.concatenate(near), subject)

    def _mean_row(self, subject: int) -> int:
        last = subject + 1
        return int(self._starts[last] if last < len(self._starts) else len(self._rows)) - 1

    def remove(self, reference: str) -> int:
        """Never find ``reference`` again: its templates are overwritten where they lie.

        Those to whom it was one of the nearest on the list are held against the rest anew.

        Returns:
            How many pictures it had; 0 when it was not on the list.
        """
        pictures = self._pictures.pop(reference, 0)
        if pictures:
            subject = self._references.index(reference)
            likeness = self._means @ self._means[subject]
            rows = np.flatnonzero(self._owner == subject)
            self._rows[rows] = 0
            self._means[subject] = 0
            if self._graph is not None:
                # Adding an existing label again overwrites its vector where it lies.
                self._graph.add_items(self._rows[rows], rows)
            self._references[subject] = REMOVED
            self._doubles.remove(subject)
            self._gone[subject] = True
            # A product of matrices and one with a vector round differently.
            changed = np.flatnonzero((likeness >= self._least - 1e-5) & ~self._gone)
            self._likeness[changed], self._least[changed] = self._neighbours(changed)
            self._likeness[subject] = 0
        return pictures

    def erase(self) -> None:
        """Overwrite every template, in the matrix and in the graph, and hold nothing any more."""
        for held in (self._rows, self._means, self._likeness, self._least):
            held.fill(0)
        self._doubles.erase()
        if self._graph is not None:
            self._graph.set_ef(1)
            self._graph.add_items(self._rows, np.arange(len(self._rows)))
            self._graph = None
        self._references, self._pictures = [], {}
        self._rows = self._means = np.zeros((0, self._rows.shape[1]), np.float32)
        self._owner = self._starts = np.zeros(0, np.int64)
        self._gone = np.zeros(0, np.bool_)
        self._likeness = self._least = np.zeros(0, np.float32)
