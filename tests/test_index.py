"""Searching the list: exact search is the truth, HNSW must agree with it, and both can be erased."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import RecordInvalid
from edge.match.index import Index


def templates(n: int, d: int = 64, seed: int = 7) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_the_best_subject_comes_first_with_its_true_similarity() -> None:
    rows = templates(50)
    index = Index([f"S{n}" for n in range(50)], rows.copy())
    probe = rows[17] + 0.05 * rows[3]
    probe = (probe / np.linalg.norm(probe)).astype(np.float32)
    result = index.search(probe)
    assert result.exact
    assert result.best is not None
    assert result.best.reference == "S17"
    assert result.best.similarity == pytest.approx(float(rows[17] @ probe), abs=1e-6)


def test_a_subject_with_several_templates_appears_once_with_its_best() -> None:
    rows = templates(4)
    index = Index(["A", "A", "B", "C"], rows.copy())
    result = index.search(rows[1].copy(), k=4)
    assert [c.reference for c in result.candidates].count("A") == 1
    assert result.candidates[0].similarity == pytest.approx(1.0, abs=1e-5)


def test_hnsw_finds_what_exact_search_finds_and_scores_it_the_same() -> None:
    rows = templates(3000)
    names = [str(n) for n in range(3000)]
    exact, graph = Index(names, rows.copy(), method="exact"), Index(names, rows.copy(), method="hnsw")
    random = np.random.default_rng(11)
    agree = 0
    for n in random.integers(0, 3000, 200):
        probe = rows[n] + 0.3 * random.standard_normal(64).astype(np.float32) / 8
        probe = (probe / np.linalg.norm(probe)).astype(np.float32)
        true, fast = exact.search(probe).best, graph.search(probe).best
        assert true is not None
        assert fast is not None
        if true.reference == fast.reference:
            agree += 1
            assert fast.similarity == pytest.approx(true.similarity, abs=1e-6)
    assert agree >= 199


def test_the_method_follows_the_length_of_the_list() -> None:
    rows = templates(30)
    names = [str(n) for n in range(30)]
    assert Index(names, rows.copy(), exact_up_to=30).method == "exact"
    assert Index(names, rows.copy(), exact_up_to=29).method == "hnsw"


def test_an_empty_list_finds_nobody() -> None:
    assert Index([], np.zeros((0, 64), np.float32)).search(templates(1)[0]).best is None


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_erasing_overwrites_the_templates_in_place(method) -> None:
    rows = templates(20)
    index = Index([str(n) for n in range(20)], rows, method=method)
    graph = index._graph
    index.erase()
    assert not rows.any()
    assert index.search(templates(1)[0]).best is None
    if graph is not None:
        assert not np.asarray(graph.get_items(range(20))).any()


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_a_removed_subject_is_overwritten_and_never_found_again_and_the_others_are(method) -> None:
    rows = templates(20)
    probes = rows.copy()
    index = Index(["5" if n == 7 else str(n) for n in range(20)], rows, method=method)
    assert index.remove("5") == 2
    assert len(index) == 18
    assert not rows[[5, 7]].any()
    if index._graph is not None:
        assert not np.asarray(index._graph.get_items([5, 7])).any()
    for probe in (5, 7):
        found = {c.reference for c in index.search(probes[probe], k=20).candidates}
        assert found.isdisjoint({"5", ""})
    best = index.search(probes[6]).best
    assert best is not None
    assert best.reference == "6"
    assert index.remove("5") == 0


def test_a_probe_of_another_model_is_refused() -> None:
    with pytest.raises(RecordInvalid, match="model"):
        Index(["A"], templates(1)).search(templates(1, d=32)[0])


def test_rows_that_are_not_of_length_one_are_refused() -> None:
    with pytest.raises(RecordInvalid, match="length 1"):
        Index(["A"], templates(1) * 2)
