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
    assert (len(index), index.pictures) == (18, 18)
    assert not rows.any(), "a list with several pictures of a person is rearranged, and the first copy overwritten"
    gone = np.flatnonzero(~index._rows.any(1))
    assert len(gone) == 3, "two pictures and their mean"
    if index._graph is not None:
        assert not np.asarray(index._graph.get_items(gone)).any()
    for probe in (5, 7):
        found = {c.reference for c in index.search(probes[probe], k=20).candidates}
        assert found.isdisjoint({"5", ""})
    best = index.search(probes[6]).best
    assert best is not None
    assert best.reference == "6"
    assert index.remove("5") == 0


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_one_picture_each_is_overwritten_where_it_lies(method) -> None:
    rows = templates(20)
    index = Index([str(n) for n in range(20)], rows, method=method)
    index.remove("7")
    assert not rows[7].any()
    assert rows[6].any()


@pytest.mark.parametrize("method", ["exact", "hnsw"])
@pytest.mark.parametrize("pictures", [1, 3])
def test_scores_after_somebody_left_are_those_of_a_list_without_them(method, pictures: int) -> None:
    rows, names = templates(40 * pictures, d=16), [str(n // pictures) for n in range(40 * pictures)]
    index = Index(names, rows.copy(), method=method)
    for gone in ("3", "17", "18", "39"):
        index.remove(gone)
    left = [at for at, name in enumerate(names) if name not in {"3", "17", "18", "39"}]
    fresh = Index([names[at] for at in left], rows[left].copy(), method="exact")
    for probe in templates(20, d=16, seed=9):
        one, other = index.search(probe, k=5).candidates, fresh.search(probe, k=5).candidates
        assert [c.reference for c in one] == [c.reference for c in other]
        assert [c.score for c in one] == pytest.approx([c.score for c in other], abs=1e-5)
        assert [c.similarity for c in one] == pytest.approx([c.similarity for c in other], abs=1e-6)


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_candidates_are_ranked_by_how_far_they_stand_out_from_the_list(method) -> None:
    """B is a little more alike to the probe than A, but B is alike to everybody."""
    random = np.random.default_rng(4)
    crowd = random.standard_normal((30, 32)) * 0.2
    crowd[:, 0] += 1
    loner, one_of_them = np.eye(32)[1], crowd[0]
    rows = np.stack([loner, one_of_them, *crowd[1:]])
    rows = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    probe = rows[0] + 1.01 * rows[1]
    probe = np.asarray(probe / np.linalg.norm(probe), np.float32)
    index = Index(["A", "B", *(f"C{n}" for n in range(29))], rows.copy(), method=method)
    first, second = index.search(probe, k=2).candidates
    assert float(probe @ rows[1]) > float(probe @ rows[0])
    assert first.reference == "A"
    assert first.score > second.score


def test_a_subject_with_several_pictures_is_also_compared_with_their_mean() -> None:
    rows = templates(3)
    index = Index(["A", "A", "B"], rows.copy())
    mean = rows[0] + rows[1]
    mean = np.asarray(mean / np.linalg.norm(mean), np.float32)
    best = index.search(mean).best
    assert best is not None
    assert (best.reference, best.similarity) == ("A", pytest.approx(1.0, abs=1e-5))


def test_rows_of_one_subject_need_not_lie_beside_each_other() -> None:
    rows = templates(5)
    index = Index(["A", "B", "A", "C", "B"], rows.copy())
    for at, name in enumerate("ABACB"):
        best = index.search(rows[at]).best
        assert best is not None
        assert (best.reference, best.similarity) == (name, pytest.approx(1.0, abs=1e-5))
    assert (len(index), index.pictures) == (3, 5)


def scored_alike(names: list[str], rows: np.ndarray, probes: np.ndarray) -> bool:
    """Whether the graph gives each probe's best candidate the score that the exact search gives."""
    exact, graph = Index(names, rows.copy(), method="exact"), Index(names, rows.copy(), method="hnsw")
    found = [(exact.search(probe).candidates[0].score, graph.search(probe).candidates[0].score) for probe in probes]
    return all(fast == pytest.approx(true, abs=0.01) for true, fast in found)


def test_what_the_graph_scores_is_what_the_exact_search_scores() -> None:
    rows = templates(3000, d=32)
    assert scored_alike([str(n) for n in range(3000)], rows, templates(100, d=32, seed=13))


def test_people_with_many_pictures_do_not_hide_the_others_from_the_graph() -> None:
    """Ten pictures of some, all alike: among the 48 rows nearest to a probe there would be four people."""
    random = np.random.default_rng(5)
    middles = random.standard_normal((1200, 16))
    names = [str(n) for n in range(1200) for _ in range(10 if n % 3 == 0 else 1)]
    rows = np.repeat(middles, [10 if n % 3 == 0 else 1 for n in range(1200)], axis=0)
    rows = rows + 0.05 * random.standard_normal(rows.shape)
    rows = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    assert scored_alike(names, rows, templates(60, d=16, seed=3))


def test_a_probe_of_another_model_is_refused() -> None:
    with pytest.raises(RecordInvalid, match="model"):
        Index(["A"], templates(1)).search(templates(1, d=32)[0])


def test_rows_that_are_not_of_length_one_are_refused() -> None:
    with pytest.raises(RecordInvalid, match="length 1"):
        Index(["A"], templates(1) * 2)


def under_several_references(times: int, pictures: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """A list on which A stands once, the same with A under more references behind it, and a probe of A."""
    random = np.random.default_rng(6)
    rows = templates(200 + times * pictures, d=96)
    rows[200:] = rows[0] + 0.06 * random.standard_normal((times * pictures, 96))
    rows = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    probe = rows[0] + 0.07 * random.standard_normal(96)
    names = [f"S{n}" for n in range(200)] + [f"again {n // pictures}" for n in range(times * pictures)]
    return names, rows, np.asarray(probe / np.linalg.norm(probe), np.float32)


@pytest.mark.parametrize("method", ["exact", "hnsw"])
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("times", [1, 9, 70])
def test_one_person_under_several_references_is_found_as_if_listed_once(method, pictures: int, times: int) -> None:
    names, rows, probe = under_several_references(times, pictures)
    once = Index(names[:200], rows[:200].copy(), method="exact").search(probe, k=1).candidates[0]
    index = Index(names, rows.copy(), method=method)
    of = {c.reference: c for c in index.search(probe, k=times + 1).candidates}
    assert once.reference == "S0"
    assert len(of) == times + 1
    assert of["S0"].score == pytest.approx(once.score, abs=1e-4)
    # A graph seldom misses a neighbour of one of them: in one build of a hundred, by 0.05 to 0.1.
    within = 0.07 if method == "exact" else 0.15
    assert all(c.score == pytest.approx(c.similarity + once.score - once.similarity, abs=within) for c in of.values())
    assert next(iter(of.values())).score >= once.score - 0.01


@pytest.mark.parametrize("method", ["exact", "hnsw"])
@pytest.mark.parametrize("pictures", [1, 2])
def test_a_double_who_leaves_leaves_the_scores_of_a_list_without_them(method, pictures: int) -> None:
    names, rows, probe = under_several_references(9, pictures)
    index = Index(names, rows.copy(), method=method)
    for gone in ("again 0", "S0", "again 5", "S17"):
        index.remove(gone)
    left = [at for at, name in enumerate(names) if name not in {"again 0", "S0", "again 5", "S17"}]
    fresh = Index([names[at] for at in left], rows[left].copy(), method="exact")
    for one_probe in (probe, *templates(20, d=96, seed=9)):
        one, other = index.search(one_probe, k=9).candidates, fresh.search(one_probe, k=9).candidates
        assert [c.reference for c in one] == [c.reference for c in other]
        assert [c.score for c in one] == pytest.approx([c.score for c in other], abs=1e-5)


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_one_picture_of_somebody_among_those_of_another_makes_them_doubles(method) -> None:
    rows = templates(60, d=96)
    rows[50:] = rows[0]
    names = ["A", *(f"S{n}" for n in range(1, 50)), *(f"S{n}" for n in range(1, 11))]
    without = [0, *range(11, 50)]
    once = Index([names[at] for at in without], rows[without].copy()).search(rows[0], k=1).candidates[0]
    found = Index(names, rows.copy(), method=method).search(rows[0], k=60).candidates
    assert next(c for c in found if c.reference == "A").score == pytest.approx(once.score, abs=1e-5)


def test_who_is_whose_double_is_forgotten_with_the_list() -> None:
    names, rows, _ = under_several_references(9, 1)
    index = Index(names, rows)
    assert len(index._doubles) == 10
    index.erase()
    assert not index._doubles
