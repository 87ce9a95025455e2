"""Flash several media at once: each with its own line, and none stops the others.

The image is verified once. Every medium is judged before the first is written: one wrong line in the plan and nothing
is written at all.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadInput, EdgeError
from provisioning.image import flash as flashes
from provisioning.image import verify
from provisioning.image.flash import Flashed

__all__ = ["AT_ONCE", "Done", "Wanted", "flash_many", "read_plan"]

AT_ONCE = 8
"""Media that are written at the same time; the rest wait."""
PLAN = ("to", "serial", "van")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of the plan.

    Attributes:
        to: device or file.
        serial: the medium's serial number, as the engineer read it from its label.
        van: name the van will be enrolled under.
    """

    to: Path
    serial: str
    van: str


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one medium: ``flashed``, or the ``error``."""

    wanted: Wanted
    flashed: Flashed | None = None
    error: EdgeError | None = None


def read_plan(path: Path) -> list[Wanted]:
    """A plan: a CSV file with the columns ``to``, ``serial`` and ``van``.

    Raises:
        BadInput: it cannot be read, a cell is missing, or a medium, a serial number or a van is named twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            str(path), f"cannot be read ({error})", "Give a CSV file with the columns to,serial,van"
        ) from None
    wanted = []
    for number, row in enumerate(rows, start=2):
        cells = {name: (row.get(name) or "").strip() for name in PLAN}
        if missing := [name for name, cell in cells.items() if not cell]:
            raise BadInput(f"{path}, line {number}", f"gives no {missing[0]}", "Give to, serial and van in every line")
        wanted.append(Wanted(Path(cells["to"]), cells["serial"], cells["van"]))
    if not wanted:
        raise BadInput(str(path), "names no medium", "Give a CSV file with the columns to,serial,van")
    columns: dict[str, Callable[[Wanted], str]] = {
        "medium": lambda line: str(line.to.resolve()),
        "serial number": lambda line: line.serial,
        "van": lambda line: line.van,
    }
    for what, cell in columns.items():
        value, count = Counter(cell(line) for line in wanted).most_common(1)[0]
        if count > 1:
            raise BadInput(str(path), f"names the {what} {value} {count} times", "Name each once")
    return wanted


def flash_many(
    folder: Path,
    keyring: Path,
    plan: Sequence[Wanted],
    *,
    ledger: Path,
    progress: Callable[[Wanted, int], None] = lambda _wanted, _percent: None,
    finished: Callable[[Done], None] = lambda _: None,
    after_write: Callable[[Path], None] = lambda _: None,
) -> list[Done]:
    """Write an image to every medium of a plan, and read each back.

    Args:
        folder: what ``image sign`` left.
        keyring: whom to trust.
        plan: see :func:`read_plan`.
        ledger: file that gets a line for every medium, faulty ones included.
        progress: told the percentage of each; from several threads.
        finished: told of each when it is done; from this thread.
        after_write: called between writing and reading back; tests spoil a medium here.

    Returns:
        One result for each line of the plan, in its order; a medium that failed has its error there.

    Raises:
        SignatureInvalid, ImageRefused, ImageUnusable, BadInput: the image, or one of the media; nothing was written.
    """
    verified = verify.verify(folder, keyring)
    for wanted in plan:
        flashes.choose(folder, wanted.to, serial=wanted.serial, ledger=ledger)

    def one(wanted: Wanted) -> Done:
        try:
            line = flashes.write(
                folder, verified, wanted.to, serial=wanted.serial, van=wanted.van, ledger=ledger,
                progress=lambda percent: progress(wanted, percent), after_write=after_write,
            )  # fmt: skip
        except EdgeError as error:
            return Done(wanted, error=error)
        except Exception as fault:  # noqa: BLE001 - one medium's trouble, whatever it is, must not hide the others'
            unforeseen = EdgeError(
                str(wanted.to), f"could not be flashed ({type(fault).__name__}: {fault})", "Try again"
            )
            return Done(wanted, error=unforeseen)
        return Done(wanted, line)

    found: dict[Wanted, Done] = {}
    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="flash") as pool:
        for future in as_completed([pool.submit(one, wanted) for wanted in plan]):
            done = future.result()
            found[done.wanted] = done
            finished(done)
    return [found[wanted] for wanted in plan]
