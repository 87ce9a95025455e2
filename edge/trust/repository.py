"""The van's view of the repository: what is signed, current and whole, from a stick or over HTTPS.

python-tuf does the work in the order that the TUF specification lays down (5.3 root, 5.4 timestamp,
5.5 snapshot, 5.6 targets, 5.7 a file). This module gives it one way to read both kinds of source, keeps
its trusted state in a folder, and turns its errors into ones that a crew can act on.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import urllib3
from tuf.api import exceptions
from tuf.api.metadata import Metadata, TargetFile, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from edge.errors import (
    MetadataExpired,
    MetadataMixed,
    MetadataRolledBack,
    PolicyRefusal,
    RepositoryInvalid,
    RepositoryUnavailable,
    StoreUnavailable,
    TargetMissing,
    TargetTampered,
)
from edge.files import fsync_file, fsync_folder

__all__ = ["Target", "VanRepository"]

CHUNK = 1 << 20
TIMEOUT_S = 20.0
PUBLISHED = "x-lfr-published"
_MIXED = re.compile(r"^Expected snapshot version|^Expected \S+ v\d+, got v\d+")
"""How the library words a version that does not fit its neighbour, as against one that is older than before."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file that the repository vouches for.

    Attributes:
        name: for example ``watchlists/D-1.age``.
        length: bytes.
        sha256: hexadecimal.
        custom: what the signing role says of it besides.
    """

    name: str
    length: int
    sha256: str
    custom: Mapping[str, Any]


class _Source(FetcherInterface):
    """Reads a folder or an HTTPS server: the one place in which they differ."""

    def __init__(self, ca: Path | None) -> None:
        self._ca = ca
        self._pool: urllib3.PoolManager | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        if url.startswith("https://"):
            return self._over_https(url)
        return self._from_folder(Path(unquote(url.removeprefix("file://"))))

    def _from_folder(self, path: Path) -> Iterator[bytes]:
        first = _piece(path, 0)

        def chunks() -> Iterator[bytes]:
            chunk, offset = first, 0
            while chunk:
                yield chunk
                offset += len(chunk)
                chunk = _piece(path, offset)

        return chunks()

    def _over_https(self, url: str) -> Iterator[bytes]:
        if self._pool is None:
            context = ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._pool = urllib3.PoolManager(ssl_context=context, retries=False, timeout=TIMEOUT_S)
        response = self._pool.request("GET", url, preload_content=False, redirect=False)
        if response.status != 200:
            response.release_conn()
            raise exceptions.DownloadHTTPError(f"the server answered {response.status}", response.status)
        return response.stream(CHUNK)


def _piece(path: Path, offset: int) -> bytes:
    """The next part of a file; nothing at its end. It is open no longer: a download may be given up at any part."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK)
    except (FileNotFoundError, NotADirectoryError):
        raise exceptions.DownloadHTTPError(f"{path} is not there", 404) from None
    except OSError as error:
        raise exceptions.DownloadError(f"{path} cannot be read") from error


class VanRepository:
    """What the van believes of the repository, kept in ``state`` across power cuts.

    Args:
        state: folder of the trusted metadata; belongs to this class alone.
        source: a folder (a stick) or an ``https://`` address.
        root: the root metadata that the van was given at its enrolment.
        ca: certificate that signed the server's; the system's store when not given.
    """

    def __init__(self, state: Path, source: str, root: bytes, *, ca: Path | None = None) -> None:
        self._state = state
        self._source = source
        self._root = root
        self._fetcher = _Source(ca)
        self._updater: Updater | None = None
        if not source.startswith("https://"):
            base = Path(source).absolute()
            self._base = f"file://{quote(str(base))}"
        else:
            self._base = source.rstrip("/")

    def refresh(self) -> None:
        """Take up the newest state that is offered and can be believed.

        Raises:
            RepositoryUnavailable: the stick or the server is not there.
            MetadataRolledBack, MetadataExpired, MetadataMixed, RepositoryInvalid: it is there and must not be believed.
        """
        if self._base.startswith("file://") and not Path(self._source, "metadata").is_dir():
            raise RepositoryUnavailable(
                self._source, "holds no lists and authorities", "Plug in the stick from the intelligence unit"
            )
        try:
            self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
            for left in self._state.glob("tmp*"):  # of a power cut in the middle of a write
                left.unlink()
        except OSError as error:
            raise self._unwritable(error) from None
        self._updater = None
        with self._translated("the repository's metadata"):
            updater = Updater(
                str(self._state),
                f"{self._base}/metadata/",
                target_base_url=f"{self._base}/targets/",
                fetcher=self._fetcher,
                config=UpdaterConfig(targets_max_length=64_000_000),
                bootstrap=self._root,
            )
            updater.refresh()
        self._updater = updater
        self._persist()

    def _persist(self) -> None:
        """Push what was learned to the device: a state that is forgotten could be rolled back."""
        for path in self._state.iterdir():
            if path.is_file():
                fsync_file(path)
        fsync_folder(self._state / "root_history")
        fsync_folder(self._state)

    def find(self, name: str) -> Target:
        """What the repository says of a file.

        Raises:
            TargetMissing: no role vouches for such a file.
            The errors of :meth:`refresh`, for the role that answers for it.
        """
        found = self._find(name)
        custom = found.unrecognized_fields.get("custom", {})
        return Target(name, found.length, found.hashes["sha256"], custom if isinstance(custom, dict) else {})

    def _find(self, name: str) -> TargetFile:
        if self._updater is None:
            self.refresh()
        assert self._updater is not None
        with self._translated(name):
            found = self._updater.get_targetinfo(name)
        self._persist()
        if found is None or "sha256" not in found.hashes:
            raise TargetMissing(name, "has not been published", "Ask the intelligence unit to publish it")
        return found

    def read(self, name: str, *, limit: int = 4_000_000) -> bytes:
        """The content of a small file.

        Raises:
            TargetTampered: it is not the file that was signed.
            TargetMissing: nobody vouches for it, or it is not there.
        """
        if self.find(name).length > limit:
            raise TargetTampered(name, f"is larger than {limit} bytes", "Tell the intelligence unit")
        path = self._state / "fetched"
        try:
            self.download(name, path)
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    def download(self, name: str, into: Path) -> Path:
        """Copy a file to ``into`` and verify it.

        Raises:
            See :meth:`read`; StoreUnavailable when it cannot be written.
        """
        found = self._find(name)
        assert self._updater is not None
        with self._translated(name, fetching=True):
            self._updater.download_target(found, filepath=str(into))
        return into

    def published_at(self) -> datetime | None:
        """When the newest state that this van has seen was published: certainly past. None before the first."""
        try:
            signed = Metadata[Timestamp].from_file(str(self._state / "timestamp.json")).signed
            return datetime.fromisoformat(str(signed.unrecognized_fields[PUBLISHED])).astimezone(UTC)
        except (exceptions.StorageError, DeserializationError, KeyError, ValueError, OverflowError):
            return None

    @contextlib.contextmanager
    def _translated(self, thing: str, *, fetching: bool = False) -> Iterator[None]:
        try:
            yield
        except exceptions.ExpiredMetadataError as error:
            raise MetadataExpired(
                thing,
                f"is out of date ({_role(error)})",
                "Ask the intelligence unit for today's stick; if this is today's, the van's clock is wrong",
            ) from None
        except exceptions.UnsignedMetadataError as error:
            raise RepositoryInvalid(
                thing,
                f"is not signed by the people whom this van trusts ({_role(error)})",
                "Do not use this stick or server; tell the intelligence unit",
            ) from None
        except exceptions.BadVersionNumberError as error:
            if _MIXED.search(str(error)):
                raise _mixed(thing) from None
            raise MetadataRolledBack(
                thing,
                f"is older than what this van has already seen ({_role(error)})",
                "Ask the intelligence unit for the newest stick",
            ) from None
        except (exceptions.LengthOrHashMismatchError, exceptions.DownloadLengthMismatchError):
            if fetching:
                raise TargetTampered(
                    thing,
                    "is not the file that was signed",
                    "Do not use this stick or server; tell the intelligence unit",
                ) from None
            raise _mixed(thing) from None
        except exceptions.RepositoryError as error:
            raise self._repository_error(thing, error) from None
        except DeserializationError:
            raise RepositoryInvalid(
                thing, "cannot be read", "Do not use this stick or server; tell the intelligence unit"
            ) from None
        except exceptions.DownloadHTTPError as error:
            if error.status_code in {403, 404}:
                raise TargetMissing(
                    thing, "is missing from the stick or server", "Ask the intelligence unit to copy all of it again"
                ) from None
            raise RepositoryUnavailable(self._source, str(error), "Try again later, or use a stick") from None
        except exceptions.DownloadError as error:
            cause = error.__cause__ or error
            raise RepositoryUnavailable(
                self._source, f"cannot be read ({type(cause).__name__})", "Check the stick or the network"
            ) from None
        except (urllib3.exceptions.HTTPError, ssl.SSLError) as error:
            raise RepositoryUnavailable(
                self._source,
                f"cannot be reached ({type(error).__name__})",
                "Check the network connection, or use a stick",
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None

    def _repository_error(self, thing: str, error: Exception) -> PolicyRefusal:
        if "snapshot" in str(error) and "missing" in str(error).lower():
            return MetadataRolledBack(
                thing, "no longer has something that it had before", "Ask the intelligence unit for the newest stick"
            )
        return RepositoryInvalid(
            thing, f"cannot be trusted ({_role(error)})", "Do not use this stick or server; tell the intelligence unit"
        )

    def _unwritable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(
            str(self._state),
            f"cannot be used ({error.strerror})",
            "Check that the disk is not full or failing, and who owns the folder",
        )


def _mixed(thing: str) -> MetadataMixed:
    return MetadataMixed(
        thing, "mixes parts of different versions", "Ask the intelligence unit to copy all of it again"
    )


def _role(error: Exception) -> str:
    """The role that an error of the library is about, without its own wording."""
    text = str(error).lower()
    roles = ("timestamp", "snapshot", "root", "watchlists", "authorities", "models", "revocations", "targets")
    return next((role for role in roles if role in text), "unknown role")
