"""Transactions of a sealed store: inside one another, in the face of errors, and seen from another thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.trust.sealed import SealedStore, StoreConflict, StoreKind

KEY = bytes(range(32))
NUMBERS = StoreKind("a store of numbers", 0x4E, ("CREATE TABLE number (value INTEGER PRIMARY KEY);",))


@pytest.fixture
def numbers(tmp_path: Path) -> Iterator[SealedStore]:
    with SealedStore(tmp_path / "numbers.db", KEY, NUMBERS, create=True) as store:
        yield store


def values(store: SealedStore) -> list[int]:
    return [row[0] for row in store.read("SELECT value FROM number ORDER BY value")]


def test_a_transaction_inside_another_is_stored_with_it_and_undone_with_it(numbers: SealedStore) -> None:
    with numbers.writing() as db:
        db.execute("INSERT INTO number VALUES (1)")
        with numbers.writing() as inner:
            inner.execute("INSERT INTO number VALUES (2)")
    assert values(numbers) == [1, 2]

    def fail() -> None:
        with numbers.writing() as db:
            with numbers.writing() as inner:
                inner.execute("INSERT INTO number VALUES (3)")
            db.execute("INSERT INTO number VALUES (4)")
            raise RuntimeError("after all")

    with pytest.raises(RuntimeError):
        fail()
    assert values(numbers) == [1, 2]


def test_a_transaction_that_fails_inside_another_takes_only_its_own_with_it(numbers: SealedStore) -> None:
    with numbers.writing() as db:
        db.execute("INSERT INTO number VALUES (1)")
        with pytest.raises(StoreConflict), numbers.writing() as inner:
            inner.execute("INSERT INTO number VALUES (2)")
            inner.execute("INSERT INTO number VALUES (1)")
        db.execute("INSERT INTO number VALUES (3)")
    assert values(numbers) == [1, 3]


def test_an_error_of_the_caller_inside_a_transaction_stays_the_caller_s(numbers: SealedStore) -> None:
    with pytest.raises(FileNotFoundError), numbers.writing() as db:
        db.execute("INSERT INTO number VALUES (1)")
        Path("/nothing/here").read_bytes()
    assert values(numbers) == []


def test_a_reader_on_another_thread_waits_for_the_end_of_a_write_and_sees_all_of_it(numbers: SealedStore) -> None:
    order: list[object] = []
    asking = threading.Event()

    def read() -> None:
        asking.set()
        order.append(values(numbers))

    reader = threading.Thread(target=read)
    with numbers.writing() as db:
        db.execute("INSERT INTO number VALUES (1)")
        reader.start()
        assert asking.wait(10)
        db.execute("INSERT INTO number VALUES (2)")
        order.append("written")
    reader.join(10)
    assert order == ["written", [1, 2]]
