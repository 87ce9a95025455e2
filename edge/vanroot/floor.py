"""Never older: the lowest version and security epoch that this van will still install or run.

Rules, in this order; the first that is broken names the refusal:

1. ``WrongBoard``: the release was made for another board.
2. ``DeploymentRunning``: the deployment's volume is open; an update waits until the list is destroyed.
3. ``LowerEpoch``: the release's security epoch is below the floor.
4. ``OlderVersion``: its version is below the floor.
5. ``FailedBefore``: it was installed here and the van came back from it.
6. ``AlreadyRuns``: it is the image that runs.

Without the last two a stick left in a van would install the same image at every start, for ever. Somebody who wants it
once more, to repair a slot or after mending what made it fail, puts a file named ``try-again`` on the stick.

The floor rises only after a new image has proved itself and its slot was marked good. It is a file on the state
volume and, where there is a TPM, a bit field in its non-volatile memory whose bits can be set and never cleared.
Without a TPM, somebody who writes back an old copy of the whole medium brings the old floor with it: nothing on the
van can notice that.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .files import read_small, replace_file

__all__ = [
    "Counter",
    "Floor",
    "FloorStore",
    "History",
    "Refusal",
    "Release",
    "TpmBits",
    "judge",
    "read_release",
    "seen_before",
    "version_key",
]

STATE = Path("/state/floor.json")
RELEASE = Path("/etc/lfr/release.json")
NV_INDEX = "0x01C10F1E"
"""In the part of the TPM's non-volatile memory that its owner may use."""
MAX_EPOCH = 63
AGAIN = "try-again"
"""File on an update stick that lets an image be installed once more; the van takes it off the stick."""


@dataclass(frozen=True, slots=True)
class Release:
    """What an image says of itself."""

    version: str
    epoch: int
    board: str
    digests: dict[str, str]


@dataclass(frozen=True, slots=True)
class Floor:
    """The lowest version and epoch still allowed."""

    version: str = "0"
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an image is not installed: a stable name, and a sentence."""

    name: str
    reason: str


def version_key(version: str) -> tuple[int, ...]:
    """Order of versions: numbers between dots, compared as numbers; trailing zeros do not count.

    Raises:
        ValueError: anything but digits and dots. A version that cannot be ordered must not be installed.
    """
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){0,5}", version):
        raise ValueError(f"version {version!r} is not numbers and dots")
    numbers = [int(part) for part in version.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def read_release(path: Path) -> Release:
    """Read a ``release.json``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not one, or its version or epoch cannot be ordered.
    """
    content = read_small(path)
    try:
        raw: dict[str, Any] = json.loads(content)
        release = Release(raw["version"], raw["epoch"], raw["board"], dict(raw["digests"]))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"release record lacks {error}") from error
    version_key(release.version)
    if not isinstance(release.epoch, int) or isinstance(release.epoch, bool) or not 0 <= release.epoch <= MAX_EPOCH:
        raise ValueError(f"security epoch {release.epoch!r} is not within 0 and {MAX_EPOCH}")
    return release


@dataclass(frozen=True, slots=True)
class History:
    """What this van has done with images so far.

    Attributes:
        running: the image that runs.
        tried: version and epoch of each image that was installed since one was last committed.
    """

    running: Release
    tried: frozenset[tuple[str, int]] = frozenset()


def judge(candidate: Release, floor: Floor, *, board: str, deployed: bool) -> Refusal | None:
    """Whether ``candidate`` may be installed on this board at this time; the first broken rule of 1 to 4, or None."""
    if candidate.board != board:
        return Refusal("WrongBoard", f"made for {candidate.board}, this van is a {board}")
    if deployed:
        return Refusal("DeploymentRunning", "a deployment's list is on the van; end the deployment first")
    if candidate.epoch < floor.epoch:
        return Refusal("LowerEpoch", f"security epoch {candidate.epoch} is below this van's floor {floor.epoch}")
    if version_key(candidate.version) < version_key(floor.version):
        return Refusal("OlderVersion", f"version {candidate.version} is below this van's floor {floor.version}")
    return None


def seen_before(candidate: Release, history: History) -> Refusal | None:
    """Rules 5 and 6: whether this very version and epoch runs here, or ran here and did not stay."""
    again = f"to install it all the same, put a file named {AGAIN} on the stick"
    if (candidate.version, candidate.epoch) == (history.running.version, history.running.epoch):
        return Refusal("AlreadyRuns", f"version {candidate.version} is the image that runs; {again}")
    if (candidate.version, candidate.epoch) in history.tried:
        return Refusal("FailedBefore", f"version {candidate.version} was installed here and did not stay; {again}")
    return None


class Counter(Protocol):
    """Something that keeps an epoch and cannot be set back."""

    def read(self) -> int: ...

    def rise(self, epoch: int) -> None: ...


class TpmBits:
    """The epoch in a TPM: bit n of an NV bit field is set once epoch n was committed; the TPM cannot clear it.

    Args:
        tcti: how tpm2-tools reach the TPM, e.g. ``device:/dev/tpmrm0``.
    """

    def __init__(self, tcti: str) -> None:
        self._environment = {**os.environ, "TPM2TOOLS_TCTI": tcti}

    def _tool(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(list(words), env=self._environment, capture_output=True, check=False)

    def _defined(self) -> bool:
        listing = self._tool("tpm2_getcap", "handles-nv-index")
        if listing.returncode != 0:
            raise OSError("TPM does not answer: " + listing.stderr.decode(errors="replace").strip()[-200:])
        return int(NV_INDEX, 16) in {int(word, 16) for word in re.findall(r"0x[0-9A-Fa-f]+", listing.stdout.decode())}

    def read(self) -> int:
        """The highest epoch committed; 0 before the first.

        Raises:
            OSError: the TPM does not answer, or the index cannot be read.
        """
        if not self._defined():
            return 0
        done = self._tool("tpm2_nvread", NV_INDEX, "-C", "o")
        if done.returncode != 0:
            if b"0x14A" in done.stderr or b"0x14a" in done.stderr:  # TPM_RC_NV_UNINITIALIZED: defined, no bit set yet
                return 0
            raise OSError("TPM floor cannot be read: " + done.stderr.decode(errors="replace").strip()[-200:])
        return max(0, int.from_bytes(done.stdout, "big").bit_length() - 1)

    def rise(self, epoch: int) -> None:
        """Set the epoch's bit.

        Raises:
            OSError: the TPM refuses.
        """
        if not self._defined():
            attributes = "ownerread|ownerwrite|authread|no_da|nt=bits"
            done = self._tool("tpm2_nvdefine", NV_INDEX, "-C", "o", "-s", "8", "-a", attributes)
            if done.returncode != 0:
                raise OSError("TPM floor cannot be made: " + done.stderr.decode(errors="replace").strip()[-200:])
        done = self._tool("tpm2_nvsetbits", NV_INDEX, "-C", "o", "-i", hex(1 << epoch))
        if done.returncode != 0:
            raise OSError("TPM floor cannot rise: " + done.stderr.decode(errors="replace").strip()[-200:])


class FloorStore:
    """The floor as it is kept: the file, never below the TPM's epoch.

    Args:
        path: the file on the state volume.
        counter: the TPM's, or None where there is none.
    """

    def __init__(self, path: Path = STATE, counter: Counter | None = None) -> None:
        self._path = path
        self._counter = counter

    def read(self) -> Floor:
        """The floor that holds now.

        Raises:
            ValueError: the file is damaged. It is then not treated as absent: a damaged floor would be no floor.
            OSError: the file or the TPM cannot be read.
        """
        floor = Floor()
        if os.path.lexists(self._path):
            try:
                raw = json.loads(read_small(self._path))
                floor = Floor(str(raw["version"]), int(raw["epoch"]))
            except (KeyError, TypeError, RecursionError) as error:
                raise ValueError(f"the floor is damaged ({type(error).__name__})") from None
            version_key(floor.version)
        if self._counter is not None:
            floor = Floor(floor.version, max(floor.epoch, self._counter.read()))
        return floor

    def rise(self, release: Release) -> Floor:
        """Lift the floor to a release that proved itself; it never sinks. Returns the floor that holds then."""
        old = self.read()
        version = max(old.version, release.version, key=version_key)
        new = Floor(version, max(old.epoch, release.epoch))
        if new.version != old.version or new.epoch != old.epoch or not self._path.exists():
            content = json.dumps({"version": new.version, "epoch": new.epoch})
            replace_file(self._path, content.encode(), mode=0o644)
        if self._counter is not None and self._counter.read() < new.epoch:
            self._counter.rise(new.epoch)
        return new


def van_floor() -> FloorStore:
    """This van's store, with its TPM where it has one."""
    device = Path("/dev/tpmrm0")
    return FloorStore(counter=TpmBits(f"device:{device}") if device.exists() else None)
