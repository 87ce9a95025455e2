"""SIGKILL at random moments of a list's life, and what must be true after each restart."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from edge.errors import WatchlistGone
from edge.records import WatchlistEntry
from edge.trust.audit import verify
from edge.trust.events import Event
from edge.trust.history import copies
from edge.watchlist.lifecycle import ListLifecycle
from tests.lists import Site, entry, import_into

OLD = tuple(f"R-old-{number:02d}" for number in range(20))
NEW = tuple(f"R-new-{number:02d}" for number in range(30))


@dataclass
class Tally:
    """In which state the cuts left the van.

    Attributes:
        old: the list before was in force.
        new: the new list was.
        none: neither: it had been destroyed.
        unharmed: the child had finished before the cut.
    """

    old: int = 0
    new: int = 0
    none: int = 0
    unharmed: int = 0
    problems: list[str] = field(default_factory=list)


def life(site: Site, new: tuple[Path, bytes]) -> None:
    """From the old list to the new one, two removals, log entries, destruction."""
    with site.audit() as audit:
        keeper = site.keeper(audit)
        keeper.recover()
        import_into(keeper, site, new)
        for number in range(10):
            audit.record(Event.ERASURES, {"from": "a", "to": "b", "count": number, "longest_ms": 1, "overdue": 0})
        keeper.remove("R-new-03", "revoked")
        audit.checkpoint()
        keeper.remove("R-new-04", "revoked")
        keeper.destroy("end of the deployment")
        audit.record(Event.STOPPED, {"cause": "end of the deployment"})


def run(folder: Path, points: int, seed: int) -> Tally:
    """Cut the power ``points`` times at random moments and check the van after each."""
    rng = random.Random(seed)
    site = Site(folder)
    site.enrol_van()
    people = {name: entry(name) for name in (*OLD, *NEW)}
    old = site.build([people[name] for name in OLD], name="old")
    new = site.build([people[name] for name in NEW], name="new")
    began = time.monotonic()
    _start_over(site, old)
    life(site, new)
    whole = time.monotonic() - began
    tally = Tally()
    for point in range(points):
        _start_over(site, old)
        child = os.fork()
        if child == 0:
            try:
                life(site, new)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        tally.unharmed += not os.WIFSIGNALED(status)
        problem = _check(site, people, tally)
        if problem:
            tally.problems.append(f"point {point}: {problem}")
    return tally


def _start_over(site: Site, old: tuple[Path, bytes]) -> None:
    """The old list in force, whatever was before."""
    with site.audit() as audit:
        keeper = site.keeper(audit)
        keeper.recover()
        keeper.destroy("start over")
        import_into(keeper, site, old)
        keeper.close()


def _check(site: Site, people: dict[str, WatchlistEntry], tally: Tally) -> str:
    with site.audit() as audit:
        keeper = site.keeper(audit)
        keeper.recover()
        try:
            store = keeper.open()
        except WatchlistGone:
            here: tuple[str, ...] = ()
            tally.none += 1
        else:
            store.verify()
            here = store.references()
            tally.old, tally.new = tally.old + (here == OLD), tally.new + (here != OLD)
        problem = _state(here) or _files(site, keeper, people, here)
        keeper.close()
    found = verify(site.log, site.signers)
    if found.signed_to != len(found.entries):
        problem = problem or "the end of the log is not signed after an orderly stop"
    in_force = [state for state in copies(found.entries).values() if not state.destroyed]
    if [sorted(state.references) for state in in_force] != ([sorted(here)] if here else []):
        problem = problem or "the log and the store disagree"
    return problem


def _state(here: tuple[str, ...]) -> str:
    left = {name for name in NEW if name not in here}
    good = here in ((), OLD) or (set(here) <= set(NEW) and left in (set(), {"R-new-03"}, {"R-new-03", "R-new-04"}))
    return "" if good else f"a state between: {len(here)} entries"


def _files(site: Site, keeper: ListLifecycle, people: dict[str, WatchlistEntry], here: tuple[str, ...]) -> str:
    folders = [path for path in keeper.folder.iterdir() if path.is_dir() and not path.is_symlink()]
    if len(folders) != bool(here):
        return f"{len(folders)} folders for {'one list' if here else 'no list'}"
    needles = [person.templates.tobytes()[:48] for person in people.values()]
    for path in site.folder.rglob("*"):
        if path.is_file() and path.parent.name not in {"old", "new"}:
            content = path.read_bytes()
            if any(needle in content for needle in needles):
                return f"a template lies readable in {path.name}"
    return ""
