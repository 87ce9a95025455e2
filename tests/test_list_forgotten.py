"""After its destruction, nothing of a list is in the process's memory or in any file of the van."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.match.second import apart
from edge.records import WatchlistEntry
from tests.lists import Site, entry, joined_rows
from tests.test_forgetting import NEEDLES, REPOSITORY, Suspect

PEOPLE = tuple(f"R-{number}" for number in range(40))


class Holder(Suspect):
    """The van's process, as one who may read its memory sees it."""

    def __init__(self, *arguments: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sim.list_holder", *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def person(name: str) -> WatchlistEntry:
    # The last two in the bundle are small, so that both would still lie in the decryption's last buffer.
    rows = 1 if name in {"R-8", "R-9"} else 1 + PEOPLE.index(name) % 5
    vectors = np.random.default_rng([7, *name.encode()]).standard_normal((rows, 192))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return entry(name, templates=vectors.astype(np.float32))


def templates(*names: str) -> list[bytes]:
    """16 bytes of each template of each person: occur nowhere by chance."""
    return [vector.tobytes()[80:96] for name in names for vector in person(name).templates]


def pictures(*names: str) -> list[bytes]:
    return [entry(name).reference_jpeg[900:916] for name in names]


def test_a_destroyed_list_is_nowhere_in_memory_or_on_disk(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may read the memory of another process")
    site = Site(tmp_path)
    site.enrol_van()
    # Several templates per person, from one to five: what is freed is then not covered by the next of its size.
    bundle, manifest = site.build([person(name) for name in PEOPLE])
    (tmp_path / "built" / "manifest.json").write_bytes(manifest)
    holder = Holder(tmp_path, bundle, tmp_path / "built" / "manifest.json")
    everybody = templates(*PEOPLE)
    assert len(everybody) > NEEDLES
    try:
        holder.wait_for("ready")
        assert holder.remembers(everybody) == 0
        holder.go_on()
        holder.wait_for("holding")
        assert holder.remembers(everybody) == len(everybody), "the search itself must work"
        holder.go_on()
        holder.wait_for("removed")
        holder.go_on()
        holder.wait_for("destroyed")
        assert holder.remembers(everybody) == 0
        assert holder.remembers(pictures(*PEOPLE)) == 0
    finally:
        holder.end()
    needles = [*everybody, *pictures(*PEOPLE)]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.parent.name != "built":
            content = path.read_bytes()
            assert not any(needle in content for needle in needles), path


class IndexHolder(Suspect):
    """A process that holds nothing but an index."""

    def __init__(self, people: int, seed: int, threads: int, *how: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sim.index_holder", str(people), str(seed), *how],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
        )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_what_multiplied_the_matrices_keeps_no_copy_of_them(threads: int) -> None:
    """A library for products of matrices packs strips of several rows into buffers of its own, which it never frees."""
    if os.geteuid() != 0:
        pytest.skip("only root may read the memory of another process")
    people, seed = 1500, 20_261_127
    rows = np.random.default_rng(seed).standard_normal((people, 192), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    strips = [rows[at : at + 4, at % 192].tobytes() for at in range(0, people - 4, 8)]
    whole = [row.tobytes()[80:96] for row in rows[::10]]
    holder = IndexHolder(people, seed, threads)
    try:
        holder.wait_for("holding")
        assert holder.remembers(whole) == len(whole), "the search itself must work"
        holder.go_on()
        holder.wait_for("erased")
        assert holder.remembers(whole) == 0
        assert holder.remembers(strips) == 0
    finally:
        holder.end()


def test_neither_embedders_part_of_a_list_is_left() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may read the memory of another process")
    people, seed = 400, 20_261_128
    whole = joined_rows(people, seed)
    parts = [part[::10].tobytes() for part in apart(whole, 192)]
    needles = [
        part[at : at + 16] for part, size in zip(parts, (768, 512), strict=True) for at in range(80, len(part), size)
    ]
    as_listed = [row.tobytes()[at : at + 16] for row in whole[::10] for at in (80, 1000)]
    holder = IndexHolder(people, seed, 1, "second")
    try:
        holder.wait_for("holding")
        assert holder.remembers(needles) == len(needles), "the search itself must work"
        assert holder.remembers(as_listed) == 0, "the list's own rows are overwritten when they are taken apart"
        holder.go_on()
        holder.wait_for("erased")
        assert holder.remembers(needles) == 0
    finally:
        holder.end()
