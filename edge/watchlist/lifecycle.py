"""The life of a list on the van: import, expiry, revocation, destruction, each whole or not at all.

A list lies in a folder of its own, ``list-<copy>``, with its sealed store and its key; the symbolic link
``current`` says which one is in force. Every change is a step that a file system does at once (a rename,
an unlink, a committed transaction), and the audit log is written so that, whatever the moment of a power
cut, :meth:`ListLifecycle.recover` can tell what was under way and finish or undo it:

========================  ======================================  =====================================
step                      order                                   after a power cut
========================  ======================================  =====================================
import                    store complete → log → ``current``      the old list; the new one is destroyed
remove an entry           store → log                             removed; the log is made up
destroy                   key → intent → store → folder → log     destroyed; the log is made up
========================  ======================================  =====================================
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from edge.clock import Clock
from edge.custody.shred import shred
from edge.errors import (
    BundleRefused,
    EdgeError,
    EntryNotFound,
    KeyUnusable,
    StoreDamaged,
    StoreUnavailable,
    WatchlistGone,
    WatchlistUnreadable,
)
from edge.files import fsync_file, fsync_folder
from edge.trust.audit import AuditLog, read_log
from edge.trust.authority import Authority
from edge.trust.events import Event
from edge.trust.history import CopyState, copies
from edge.trust.secret import create_secret, read_secret
from edge.watchlist.admission import judge_import
from edge.watchlist.bundle import AgeIdentity, Manifest, parse_manifest, read_bundle
from edge.watchlist.destruction import (
    CURRENT,
    DAMAGED,
    INTENT,
    INTERRUPTED,
    KEY,
    PASSING,
    REPLACED,
    STORE,
    destroy_everything,
    is_whole,
    read_intent,
    write_intent,
)
from edge.watchlist.identity import DestructionReceipt, ListMeta
from edge.watchlist.store import WatchlistStore, destroy_files

__all__ = ["ListLifecycle"]

GONE = "found gone after a power cut"
KEYLESS = "its key was gone"


class ListLifecycle:
    """Keeps at most one list in force. Make it, :meth:`recover`, then :meth:`open` or :meth:`import_bundle`.

    Args:
        folder: holds nothing but lists; made when it is not there.
        clock: for dates and receipts.
        audit: every change is written there.
        device_secret: of this machine (a systemd credential, bound to the TPM where one is fitted). Mixed into
            each list's key, so that a copied disk alone opens nothing. Empty where there is none.
        clock_confirmed: whether the clock may be believed; while it may not, no entry expires by it.
        step: called between the steps of a change; for the power-cut tests only.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        audit: AuditLog,
        device_secret: bytes = b"",
        clock_confirmed: Callable[[], bool] = lambda: True,
        step: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder
        self._clock = clock
        self._audit = audit
        self._left: set[str] = set()
        self._device_secret = device_secret
        self._clock_confirmed = clock_confirmed
        self._on_removed: Callable[[str], None] | None = None
        self._step = step or (lambda _: None)
        self._lock = threading.RLock()
        self._store: WatchlistStore | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreUnavailable(
                str(folder), f"cannot be made ({error.strerror})", "Check that the disk is not full or failing"
            ) from None

    def on_removed(self, tell: Callable[[str], None]) -> None:
        """From now on, tell each reference that leaves the list, so that the index forgets it, too."""
        self._on_removed = tell

    # -- the list in force ---------------------------------------------------------------------

    @property
    def _current(self) -> Path | None:
        """The folder of the list in force, if ``current`` points to one that is there."""
        with contextlib.suppress(OSError):
            target = self.folder / (self.folder / CURRENT).readlink().name
            if target.is_dir():
                return target
        return None

    def open(self, *, model: str | None = None) -> WatchlistStore:
        """The list in force, open; the same object until it is destroyed or replaced.

        Raises:
            WatchlistGone: there is none.
            ModelRejected, StoreDamaged, WatchlistUnreadable, KeyUnusable: see :meth:`WatchlistStore.open`.
        """
        with self._lock:
            if self._store is None:
                current = self._current
                if current is None:
                    raise WatchlistGone(
                        "the watchlist", "is not on this van", "Plug in the stick from the intelligence unit"
                    )
                self._store = WatchlistStore.open(current / STORE, self._key(current / KEY))
            self._store.require(model)
            return self._store

    def held(self) -> str | None:
        """Identity of the list in force; None without one."""
        with self._lock:
            return self.open().digest if self._current is not None else None

    def _key(self, file: Path) -> bytes:
        secret = read_secret(str(file.absolute()))
        return hmac.digest(self._device_secret, secret, hashlib.sha256) if self._device_secret else secret

    def close(self) -> None:
        """Close the store; the list stays in force."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    # -- import --------------------------------------------------------------------------------

    def import_bundle(
        self,
        bundle: Path,
        manifest: bytes,
        identity: AgeIdentity,
        authority: Authority,
        *,
        van: str,
        model: str,
    ) -> WatchlistStore:
        """Import the list that ``authority`` names, in place of the one before, which is destroyed.

        Args:
            bundle: the encrypted file, verified against the repository already.
            manifest: its manifest, verified likewise.
            identity: the van's age key.
            authority: the deployment's, verified.
            van: the van's identity.
            model: digest of the embedder that runs.

        Raises:
            PolicyRefusal: see :func:`edge.watchlist.admission.judge_import` and
                :func:`edge.watchlist.bundle.read_bundle`; the list before stays in force.
            StoreUnavailable: the disk refuses; likewise.
        """
        with self._lock:
            described = parse_manifest(manifest)
            judge_import(described, authority, van=van, model=model, now=self._clock.now())
            copy = f"list-{uuid.uuid4().hex}"
            staged = self.folder / copy
            try:
                references = self._stage(staged, bundle, identity, described)
                fsync_folder(self.folder)
                self._step("staged")
                self._audit.deployment = authority.deployment
                imported = {
                    "list": described.watchlist,
                    "copy": copy,
                    "entries": len(references),
                    "references": list(references),
                }
                self._audit.record(Event.LIST_IMPORTED, imported)
            except BaseException:
                self._remove_folder(staged)
                raise
            self._step("logged")
            previous = self._current
            self.close()
            self._point_to(copy)
            self._step("switched")
            if previous is not None:
                self._destroy(previous, REPLACED)
            self._leave_again()
            self.expire()
            return self.open(model=model)

    def _stage(self, staged: Path, bundle: Path, identity: AgeIdentity, manifest: Manifest) -> tuple[str, ...]:
        staged.mkdir(mode=0o700)
        create_secret(staged / KEY)
        self._step("key made")
        meta = ListMeta(manifest.deployment, manifest.model, manifest.dimension, manifest.built)
        with WatchlistStore.create(staged / STORE, self._key(staged / KEY), meta) as store:
            with store.filling() as insert:
                read_bundle(bundle, identity, manifest, insert)
                self._step("filled")
            if store.digest != manifest.watchlist:
                raise BundleRefused(
                    "the bundle",
                    "holds another list than its manifest names",
                    "Ask the intelligence unit to build and publish the list again",
                )
            references = store.references()
        for path in staged.iterdir():
            fsync_file(path)
        fsync_folder(staged)
        return references

    def _point_to(self, copy: str) -> None:
        beside = self.folder / f".{CURRENT}.new"
        beside.unlink(missing_ok=True)
        beside.symlink_to(copy)
        beside.replace(self.folder / CURRENT)
        fsync_folder(self.folder)

    # -- one entry -----------------------------------------------------------------------------

    def remove(self, reference: str, cause: str) -> None:
        """Take one entry out of the store for good, tell the index, and log it.

        Raises:
            EntryNotFound: it is not on the list.
            WatchlistGone: there is no list.
            StoreDamaged, StoreUnavailable: the store still holds it; the index was told all the same.
        """
        with self._lock:
            try:
                store = self.open()
                removed = store.remove(reference)
            except (StoreDamaged, StoreUnavailable):
                # Whoever is to leave the list must not be found, whatever the disk says.
                if self._on_removed is not None:
                    self._on_removed(reference)
                raise
            if not removed:
                if reference not in self._left:  # an overseer sees what was asked for and could not be done
                    self._left.add(reference)
                    absent = {"list": store.digest, "reference": reference, "cause": cause}
                    self._audit.record(Event.ENTRY_ABSENT, absent)
                raise EntryNotFound(reference, "is not on this list", "Check the reference")
            self._left.add(reference)
            self._step("removed")
            self._log_removed(store.digest, store.path.parent.name, reference, cause)
            if self._on_removed is not None:
                self._on_removed(reference)

    def expire(self) -> tuple[str, ...]:
        """Remove every entry whose delete-by or review-by date is over. Call it once a minute; returns who left."""
        with self._lock:
            if self._current is None or not self._clock_confirmed():
                return ()
            due = self.open().due(self._clock.now().date().isoformat())
            for reference in due:
                self.remove(reference, "its date is over")
            return due

    def _leave_again(self) -> None:
        """Whoever left this very list before, in a copy of it that was damaged or destroyed, leaves this one, too."""
        store = self.open()
        left = {
            str(entry.data["reference"]): str(entry.data["cause"])
            for entry in read_log(self._audit.path)
            if entry.event == Event.ENTRY_REMOVED and entry.data["list"] == store.digest
        }
        for reference in sorted(left.keys() & set(store.references())):
            self.remove(reference, left[reference])

    def _log_removed(self, digest: str, copy: str, reference: str, cause: str) -> None:
        removed = {"list": digest, "copy": copy, "reference": reference, "cause": cause}
        self._audit.record(Event.ENTRY_REMOVED, removed)

    # -- the end -------------------------------------------------------------------------------

    def destroy(self, cause: str) -> DestructionReceipt | None:
        """Destroy the list in force: key first, then everything else. None when there is none.

        Raises:
            StoreUnavailable: a file could not be overwritten; the key is tried first, whatever else fails.
        """
        with self._lock:
            current = self._current
            if current is None:
                return None
            try:
                return self._destroy(current, cause)
            except OSError as error:
                raise StoreUnavailable(
                    str(current), f"cannot be removed ({error.strerror})", "Check that the disk is not failing"
                ) from None

    def destroy_of(self, deployment: str, cause: str) -> DestructionReceipt | None:
        """:meth:`destroy`, when the list in force came for that deployment; another one's stays."""
        with self._lock:
            current = self._current
            known = self._known().get(current.name) if current is not None else None
            return self.destroy(cause) if known is not None and known.deployment == deployment else None

    @property
    def sealed(self) -> bool:
        """Whether there is no key of any list on this disk: what is left of one is noise."""
        return not any(self.folder.glob(f"list-*/{KEY}"))

    def _destroy(self, doomed: Path, cause: str, *, announced: bool = False) -> DestructionReceipt | None:
        if cause in PASSING:  # no end, and nothing urgent: a power cut must not make one of it
            write_intent(self.folder, doomed.name, cause)
        # The key goes before anything is closed, written or asked: none of that may keep a list alive.
        key = (KEY,) if shred(doomed / KEY) or announced else ()
        self._step("key")
        if self._store is not None and self._store.path.parent == doomed:
            self.close()
        write_intent(self.folder, doomed.name, cause)
        self._step("intent")
        files = (*key, *self._remove_folder(doomed))
        with contextlib.suppress(FileNotFoundError):
            if (self.folder / CURRENT).readlink().name == doomed.name:
                (self.folder / CURRENT).unlink()
                fsync_folder(self.folder)
        self._step("gone")
        # The log comes last: a log that is broken or full must not keep a list alive.
        known = self._known().get(doomed.name)
        receipt = self._log_destroyed(known, cause, files) if known is not None else None
        self._step("receipt")
        (self.folder / INTENT).unlink(missing_ok=True)
        fsync_folder(self.folder)
        return receipt

    def _remove_folder(self, doomed: Path) -> tuple[str, ...]:
        if not doomed.is_dir():
            return ()
        gone = destroy_files(doomed / STORE, doomed / KEY)
        self._step("shredded")
        doomed.rmdir()
        fsync_folder(self.folder)
        return gone

    def _log_destroyed(self, known: CopyState, cause: str, files: tuple[str, ...]) -> DestructionReceipt:
        at = self._clock.now()
        destroyed = {
            "list": known.watchlist,
            "copy": known.copy,
            "cause": cause,
            "entries": len(known.references),
            "files": list(files),
            "destroyed_at": at.isoformat(timespec="milliseconds"),
        }
        self._audit.record(Event.LIST_DESTROYED, destroyed)
        self._audit.checkpoint()
        return DestructionReceipt(known.watchlist, known.deployment, at, cause, known.references, files)

    def _known(self) -> dict[str, CopyState]:
        return copies(read_log(self._audit.path))

    # -- after a power cut ---------------------------------------------------------------------

    def recover(self, gone: str = GONE) -> DestructionReceipt | None:
        """Finish or undo whatever was under way when the power went. Call it once, before anything else.

        Returns the receipt of a list that was in force and whose destruction was finished here.

        Args:
            gone: the cause that is logged for a list that is not here any more without a word why.

        Raises:
            AuditBroken: the log was tampered with; whatever list there is has been destroyed then.
        """
        with self._lock:
            for left in self.folder.glob(".*.new"):
                left.unlink()
            try:
                known = self._known()
            except EdgeError:
                self.close()
                destroy_everything(self.folder)
                raise
            intent = read_intent(self.folder)
            current, receipt = self._current, None
            for folder in sorted(self.folder.glob("list-*")):
                state = known.pop(folder.name, None)
                if state is None or state.destroyed:
                    self._remove_folder(folder)
                elif folder != current and folder.name not in intent:  # it was never in force, or is not any more
                    later = current is None or state.order > _order_of(current, self._known())
                    self._destroy(folder, INTERRUPTED if later else REPLACED)
                elif folder.name in intent or not is_whole(folder / KEY):
                    cause, announced = intent.get(folder.name, KEYLESS), folder.name in intent
                    done = self._destroy(folder, cause, announced=announced)
                    receipt = done if folder == current else receipt
                else:
                    self._make_up(folder, state)
            for copy, state in known.items():
                if not state.destroyed:
                    receipt = self._log_destroyed(state, intent.get(copy, gone), ())
            if self._current is None:
                (self.folder / CURRENT).unlink(missing_ok=True)
            (self.folder / INTENT).unlink(missing_ok=True)
            fsync_folder(self.folder)
            return receipt

    def _make_up(self, folder: Path, state: CopyState) -> None:
        """Log the entries that left the store without the log hearing of it; destroy a list that does not open."""
        try:
            here = set(self.open().references())
        except KeyUnusable:
            return  # a wrong device secret: open() says so, and destroy() needs no key
        except (StoreDamaged, WatchlistUnreadable):
            # Nobody's templates are kept aside; the bundle that it came from is still in the repository.
            self._destroy(folder, DAMAGED)
            return
        for reference in sorted(set(state.references) - here):
            self._log_removed(state.watchlist, folder.name, reference, "removed before a power cut")
        self._leave_again()


def _order_of(folder: Path, known: dict[str, CopyState]) -> int:
    """When the copy in ``folder`` was imported, as a place in the log; 0 when the log does not know it."""
    state = known.get(folder.name)
    return state.order if state is not None else 0
