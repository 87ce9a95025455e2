"""The audit log between processes, numbers that it may claim, and a checkpoint that the disk refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import AuditBroken, StoreUnavailable
from edge.trust import audit
from edge.trust.audit import checkpoints_of
from edge.trust.events import Event
from tests.test_audit_edges import new_log


def test_a_log_that_claims_a_number_beyond_all_measure_is_broken_at_once(tmp_path: Path) -> None:
    """Whoever has no key can still chain an entry of any number: it must cost no memory to say what is missing."""
    with pytest.raises(AuditBroken, match="entries 2, 3, 4, 5, 6 … were removed"):
        audit._check_order(tmp_path / "log", [1, 10**15])
    with pytest.raises(AuditBroken, match="entry 2 was removed"):
        audit._check_order(tmp_path / "log", [1, 3])
    with pytest.raises(AuditBroken, match="entries 1, 3 were removed"):
        audit._check_order(tmp_path / "log", [2, 4])
    with pytest.raises(AuditBroken, match="entry 0 stands at place 1"):
        audit._check_order(tmp_path / "log", [0, 1])


class TestInUse:
    def test_a_log_that_is_not_there_or_that_nobody_writes_is_free(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        assert not audit.in_use(path)
        new_log(path).close()
        for _ in range(3):
            assert not audit.in_use(path)
        new_log(path).close()

    def test_a_log_that_somebody_writes_is_in_use_and_asking_does_not_change_that(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        log = new_log(path)
        open_before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            assert audit.in_use(path)
        assert len(list(Path("/proc/self/fd").iterdir())) == open_before, "every handle is let go"
        log.close()
        assert not audit.in_use(path)


def test_a_checkpoint_that_cannot_be_kept_is_a_plain_error(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.record(Event.STOPPED, {"cause": "test"})
    checkpoints_of(tmp_path / "log").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        log.checkpoint()
    checkpoints_of(tmp_path / "log").rmdir()
    log.close()
