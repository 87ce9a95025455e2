"""A second embedder is asked about whoever the first has brought near somebody, and about nobody else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from edge.config import DecisionSection
from edge.errors import RecordInvalid
from edge.evaluate.extract import Acquired, Acquisition
from edge.evaluate.passages import from_pictures
from edge.evaluate.report import _templates
from edge.evaluate.strangers import Both, List, Second
from edge.evaluate.tail import measure
from edge.match.decide import Decider
from edge.match.index import Index
from edge.match.relative import Relative
from edge.match.second import SecondOpinion, apart, by_first, joined, pair_digest
from edge.records import Candidate, Limits, SearchResult
from edge.sight.embed import Embedder as RealEmbedder
from edge.sight.picture import read_image
from edge.sight.runtime import load
from provisioning.encoder import make_encoder
from provisioning.enrol import enrol
from provisioning.sources import Record, read_folder
from tests.sim.clock import HandClock
from tests.test_pipeline import Embedder, Van

FIRST, SECOND = "mobilefacenet:dynamic-int8", "dlib-resnet:dynamic-int8"
PORTRAITS = Path(__file__).parent.parent / "provisioning" / "demo" / "portraits"
RANDOM = np.random.default_rng(73)
COSINE = Relative(probe=0.0, entry=0.0)


def rows(count: int, numbers: int) -> np.ndarray:
    made = RANDOM.standard_normal((count, numbers)) + 0.3
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def test_a_pair_is_named_by_both_digests_in_their_order_and_one_embedder_by_its_own() -> None:
    assert pair_digest("a" * 64, "") == "a" * 64
    assert len({pair_digest("a", "b"), pair_digest("b", "a"), pair_digest("a", "c"), "a"}) == 4
    assert len(pair_digest("a", "b")) == 64


def test_two_templates_are_one_row_of_length_1_and_come_apart_as_they_were() -> None:
    first, second = rows(3, 5), rows(3, 9)
    kept = first.copy(), second.copy()
    both = np.stack([joined(one, other) for one, other in zip(first, second, strict=True)])
    assert not first.any() and not second.any()
    assert np.linalg.norm(both, axis=1) == pytest.approx(1.0)
    for part, was in zip(apart(both, 5), kept, strict=True):
        assert part == pytest.approx(was, abs=1e-6)
    assert by_first(both, 5) == pytest.approx(kept[0], abs=1e-6)
    assert by_first(kept[0], 5) is kept[0]


def test_rows_of_one_embedder_are_not_taken_for_those_of_two() -> None:
    with pytest.raises(RecordInvalid, match="not those of two embedders"):
        apart(rows(4, 14), 5)


def test_candidates_are_ranked_by_both_scores_and_keep_the_firsts_similarity() -> None:
    names = [f"S-{n}" for n in range(30)]
    mine, others, relative = rows(30, 8), rows(30, 6), Relative()
    first = Index(names, mine.copy(), relative=relative)
    second = SecondOpinion(first, names, others.copy(), relative=relative, share=0.6)
    probe, other = rows(1, 8)[0], rows(1, 6)[0]
    found = first.search(probe, 5)
    alone = Index(names, others.copy(), relative=relative, doubles=first.doubles).search(other, 30)
    theirs = {candidate.reference: candidate.score for candidate in alone.candidates}
    weighed = second.weigh(found, other).candidates
    expected = {c.reference: (0.4 * c.score + 0.6 * theirs[c.reference], c.similarity) for c in found.candidates}
    assert [c.reference for c in weighed] == sorted(expected, key=lambda name: -expected[name][0])
    for candidate in weighed:
        assert (candidate.score, candidate.similarity) == pytest.approx(expected[candidate.reference], abs=1e-5)
    assert second.weigh(SearchResult((), exact=True), other).candidates == ()


def test_whoever_left_counts_for_nobody_any_more_and_cannot_be_asked_about() -> None:
    names, mine, others, relative = ["a", "b", "c"], rows(3, 8), rows(3, 6), Relative()
    first = Index(names, mine.copy(), relative=relative)
    second = SecondOpinion(first, names, others.copy(), relative=relative, share=0.6)
    first.remove("b")
    second.remove("b")
    found, other = SearchResult((Candidate("a", 0.5, 0.5),), exact=True), rows(1, 6)[0]
    fresh_first = Index(["a", "c"], mine[[0, 2]].copy(), relative=relative)
    fresh = SecondOpinion(fresh_first, ["a", "c"], others[[0, 2]].copy(), relative=relative, share=0.6)
    assert second.weigh(found, other).candidates[0].score == pytest.approx(
        fresh.weigh(found, other).candidates[0].score, abs=1e-5
    )
    with pytest.raises(RecordInvalid, match="about b, who is not listed"):
        second.weigh(SearchResult((Candidate("b", 0.5, 0.5),), exact=True), other)
    second.erase()
    assert "0 subjects" in repr(second)


def test_who_is_one_person_is_for_the_first_to_say() -> None:
    names = [f"S-{n}" for n in range(13)]
    mine, relative = rows(13, 40), Relative()
    mine[1] = mine[0]  # one person twice
    others = np.repeat(rows(1, 6), 13, axis=0)  # whom the second finds alike all round
    first = Index(names, mine, relative=relative)
    second = SecondOpinion(first, names, others, relative=relative, share=1.0)
    found = SearchResult((Candidate("S-0", 0.5, 0.5), Candidate("S-2", 0.5, 0.5)), exact=True)
    scores = [candidate.score for candidate in second.weigh(found, others[0].copy()).candidates]
    # Eleven others at 1, of whom ten count for everybody: had the second its own doubles, none would.
    assert scores == pytest.approx([1 - 0.8, 1 - 0.8], abs=1e-5)


def test_with_a_second_embedder_whoever_does_not_reach_the_limit_by_the_first_is_not_near() -> None:
    limits = Limits(score=0.3, similarity=0.5)
    just_below = SearchResult((Candidate("a", 0.6, 0.29),), exact=True)
    enough = SearchResult((Candidate("a", 0.6, 0.3),), exact=True)
    track = HandClock().monotonic_ns  # any object: tracks are only told apart
    alone = Decider(DecisionSection(), limits=limits)
    pair = Decider(DecisionSection(), limits=limits, near=0.0)
    assert alone.near(track, just_below, 0)  # type: ignore[arg-type]
    assert not pair.near(track, just_below, 0)  # type: ignore[arg-type]
    assert pair.near(track, enough, 0)  # type: ignore[arg-type]


class Other(Embedder):
    """The second embedder: of another alignment, with as many numbers; says how alike the face is to S-1."""

    digest, template = "of-the-second", "dlib-150"

    def __init__(self, cosine: float) -> None:
        super().__init__()
        self.cosine, self.flushes = cosine, 0

    def embed_mean(self, chips: Iterable[np.ndarray]) -> np.ndarray:
        self.closely.append([chip.copy() for chip in chips])
        return np.array([self.cosine, np.sqrt(1 - self.cosine**2), 0], np.float32)

    def flush(self) -> None:
        self.flushes += 1


def asked(cosine: float, *, score: float = 0.6) -> tuple[Van, Other]:
    """A van whose first embedder is sure (1.0), and whose second finds the face so alike."""
    first, other = Index(["S-1"], np.eye(1, 4, dtype=np.float32)), Other(cosine)
    opinion = SecondOpinion(first, ["S-1"], np.eye(1, 3, dtype=np.float32), relative=COSINE, share=0.6)
    van = Van(second=(other, opinion), model="of-the-pair")
    van.pipeline._index = first
    van.pipeline._decider = Decider(DecisionSection(), limits=Limits(score, 0.45), near=0.0)
    return van, other


@pytest.mark.parametrize(("cosine", "alerts"), [(0.9, 1), (0.2, 0)], ids=["agrees", "does not"])
def test_an_alert_takes_both_opinions(cosine: float, alerts: int) -> None:
    van, other = asked(cosine)
    van.pipeline.run()
    assert [(alert.reference, alert.model) for alert in van.desk.alerts] == [("S-1", "of-the-pair")] * alerts
    for alert in van.desk.alerts:
        assert alert.score == pytest.approx(0.4 + 0.6 * cosine, abs=1e-4)
        assert alert.similarity == pytest.approx(1.0, abs=1e-4)
    assert {len(chips) for chips in other.closely} == {4}
    assert all(chip.shape == (150, 150, 3) for chips in other.closely for chip in chips)
    assert other.flushes == 1
    assert van.nothing_is_held


def test_nobody_who_is_far_from_everybody_is_shown_to_the_second() -> None:
    van, other = asked(0.9, score=1.01)
    van.pipeline.run()
    assert van.pipeline.counts.embedded > 0
    assert other.closely == []
    assert other.flushes == 0, "it costs a run of the network"
    assert van.desk.alerts == []


def test_a_passage_that_begins_anew_begins_anew_for_the_second_too() -> None:
    van, _ = asked(0.9)
    frames = [van.street.next(0.0) for _ in range(6)]
    for frame in frames[:4]:
        assert frame is not None
        van.pipeline.process(frame)
    (track,) = van.pipeline._seconds
    assert van.pipeline._seconds[track].folded >= 1
    van.pipeline._embedder.embed = lambda _: np.array([-1, 0, 0, 0], np.float32)  # type: ignore[method-assign]
    assert frames[4] is not None
    van.pipeline.process(frames[4])
    assert track not in van.pipeline._seconds, "what the second saw may have been somebody else"


def test_somebody_who_leaves_and_a_list_that_is_forgotten_leave_the_second_too() -> None:
    van, _ = asked(0.9)
    assert van.pipeline._second is not None
    van.pipeline.remove("S-1")
    assert "0 subjects" in repr(van.pipeline._second[1])
    again, _ = asked(0.9)
    assert again.pipeline._second is not None
    again.pipeline.forget_list()
    assert again.pipeline._second[1]._index._rows.size == 0


def test_the_office_enrols_both_templates_and_compares_people_by_the_first() -> None:
    encoder, alone = make_encoder(second=SECOND, turns=(0,)), make_encoder(turns=(0,))
    digests = [RealEmbedder(load(name, kind="embedder")).digest for name in (FIRST, SECOND)]
    assert encoder.model == pair_digest(*digests)
    assert (encoder.searched, encoder.dimension, alone.dimension) == (192, 320, 192)
    one, other = (each.encode(read_image(PORTRAITS / "obama2.jpg"), "obama") for each in (encoder, alone))
    first, second = apart(one.template[None], 192)
    assert first[0] == pytest.approx(other.template, abs=1e-5)
    assert second.shape == (1, 128)


def test_pictures_of_one_person_agree_by_the_first_embedder_alone(tmp_path: Path) -> None:
    (tmp_path / "P-1").mkdir()
    for name in ("obama2.jpg", "biden.jpg"):
        (tmp_path / "P-1" / name).write_bytes((PORTRAITS / name).read_bytes())
    record = Record(category="test", lawful_basis="test", image_source="test")
    result = enrol(read_folder(tmp_path, record), make_encoder(second=SECOND, turns=(0,)))
    assert result.entries == []  # dlib's cosine of these two is above 0.7: by both they would be one person
    assert any("two people" in refusal.reason for refusal in result.refused)


def test_a_list_that_two_score_is_the_mean_of_both_lists() -> None:
    first, second, relative = rows(40, 12), rows(40, 7), Relative(one_person=0.9)
    both, how = np.hstack([first, second]), Second(at=12, share=0.25)
    probes, own = np.hstack([rows(9, 12), rows(9, 7)]), np.array([3, -1, 5, -1, -1, 0, -1, 39, 2])
    one = List(first, relative)
    two = List(second, relative, one.doubles)
    expected = 0.75 * one.scores(probes[:, :12], own) + 0.25 * two.scores(probes[:, 12:], own)
    on = Both(both, relative, how)
    assert on.scores(probes, own) == pytest.approx(expected, abs=1e-5)
    for share, only in ((0.0, one.scores(probes[:, :12], own)), (1.0, two.scores(probes[:, 12:], own))):
        assert Both(both, relative, Second(12, share)).scores(probes, own) == pytest.approx(only, abs=1e-6)
    entry = np.concatenate([rows(1, 12)[0], rows(1, 7)[0]])
    replaced = both.copy()
    replaced[4] = entry
    swapped = on.with_another(4, entry)(probes)
    assert swapped[:, 4] == pytest.approx(Both(replaced, relative, how).scores(probes, np.full(9, -1))[:, 4], abs=1e-5)


def test_what_gave_no_template_is_a_row_of_zeros_and_no_picture_is_no_row() -> None:
    made = Acquisition(Acquired.TEMPLATE, (np.ones((2, 5), np.float32), np.full((2, 3), 2, np.float32)))
    found = _templates([Acquisition(Acquired.NO_FACE), made], (0, 1), closely=True)
    assert found.tolist() == [[0] * 8, [1] * 5 + [2] * 3]
    assert len(_templates([], (0, 1), closely=True)) == 0


def test_tail_and_passages_know_the_second() -> None:
    people, how = np.arange(2400) // 8, Second(at=12, share=0.6)
    templates = np.hstack([rows(2400, 12), rows(2400, 7)])
    listed, first = (templates[::8], people[::8]), np.ascontiguousarray(templates[:, :12])
    (both,) = measure(templates, people, *listed, Relative(), second=how, sizes=())
    (alone,) = measure(first, people, first[::8].copy(), people[::8], Relative(), sizes=())
    assert both.threshold(0.05) < alone.threshold(0.05) - 0.01
    made, _ = from_pictures(templates, people, 3, draws=1, clock=HandClock(), second=how)
    assert made
    for passage in made[:5]:
        for part in (slice(12), slice(12, None)):
            folded = np.cumsum(passage.pictures[:, part], axis=0)
            folded /= np.linalg.norm(folded, axis=1, keepdims=True)
            if not passage.begun[1:].any():
                assert passage.probes[:, part] == pytest.approx(folded, abs=1e-5)
