"""The repository from which vans take lists, authorities, models and revocations: TUF, as its publisher sees it.

Root is kept offline and needs two of three keys; it names everybody else. Four delegated roles sign what
they answer for and nothing more. The authorising officers' role may need several signatures, each with a
key of its own; until enough have signed, the last state that enough had signed stays published. Snapshot
and timestamp tie one state together and live for 24 hours, so that a van which is cut off, or shown an old
state on purpose, knows it by the next day.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from edge.errors import BadInput, KeyUnusable, RepositoryInvalid, StoreUnavailable
from edge.files import replace_file
from edge.trust.canonical import sha256
from provisioning.keyring import HeldKey, Keyring

__all__ = ["AUTHORITIES", "DELEGATED", "LIFETIMES", "Pending", "Repository"]

DELEGATED: Final = ("watchlists", "authorities", "models", "revocations")
AUTHORITIES: Final = "authorities"
TOP: Final = ("root", "targets", "snapshot", "timestamp")
LIFETIMES: Final = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "models": timedelta(days=365),
    "watchlists": timedelta(days=7),
    "authorities": timedelta(days=7),
    "revocations": timedelta(days=7),
    "snapshot": timedelta(hours=24),
    "timestamp": timedelta(hours=24),
}
"""How long each role's word holds."""
MOST_OFFICERS: Final = 9
ROOT_KEYS, ROOT_THRESHOLD = 3, 2
PUBLISHED = "x-lfr-published"
"""When the timestamp was made: a van's clock cannot honestly be behind it. Our own field; TUF allows them."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits for another signature.

    Attributes:
        names: files that are new, changed or gone since the last state that enough people signed.
        have: signatures it has.
        need: signatures it needs.
    """

    names: tuple[str, ...]
    have: int
    need: int


class Repository:
    """One repository in a folder: ``metadata/`` and ``targets/``, to be served or copied to a stick as it is.

    Args:
        folder: the repository.
        keys: the keyring.
    """

    def __init__(self, folder: Path, keys: Keyring) -> None:
        self.folder = folder
        self.keys = keys

    # -- making --------------------------------------------------------------------------------

    def init(self, now: datetime, *, officers: int = 1, signatures: int = 1) -> None:
        """Make keys for every role that has none, and the first version of everything.

        Args:
            now: when.
            officers: how many may sign authorities, each with a key of their own.
            signatures: how many of them must.

        Raises:
            BadInput: there is a repository already.
        """
        if (self.folder / "metadata").exists():
            raise BadInput(str(self.folder), "holds a repository already", "Give an empty folder")
        _check_officers(officers, signatures)
        counts = {"root": ROOT_KEYS, AUTHORITIES: officers}
        for role in (*TOP, *DELEGATED):
            if role not in self.keys.roles():
                self.keys.use(role, self.keys.generate(role, counts.get(role, 1)))
        (self.folder / "metadata").mkdir(parents=True)
        (self.folder / "targets").mkdir(parents=True)
        root = Root(consistent_snapshot=True, expires=_until(now, "root"))
        for role in TOP:
            for held in self.keys.keys(role):
                root.add_key(held.public, role)
        root.roles["root"].threshold = ROOT_THRESHOLD
        targets = Targets(expires=_until(now, "targets"), delegations=Delegations({}, {}))
        assert targets.delegations is not None
        for role in DELEGATED:
            need = signatures if role == AUTHORITIES else 1
            self._delegate(targets, role, self.keys.keys(role), need)
            self._save(role, Targets(expires=_until(now, role)), self.keys.keys(role), need=need)
        self._save("root", root, self.keys.keys("root"), need=ROOT_THRESHOLD)
        self._save("targets", targets, self.keys.keys("targets"))
        self._publish(now, first=True)

    @staticmethod
    def _delegate(targets: Targets, role: str, keys: list[HeldKey], need: int) -> None:
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        targets.delegations.roles[role] = DelegatedRole(
            name=role, keyids=[], threshold=need, terminating=True, paths=[f"{role}/*"]
        )
        for held in keys:
            targets.add_key(held.public, role)

    # -- content -------------------------------------------------------------------------------

    def add(self, name: str, content: bytes, now: datetime, *, custom: Mapping[str, Any] | None = None) -> TargetFile:
        """Put a file under ``<role>/<file>`` and sign that role's list of files. :meth:`publish` makes it visible.

        A signature is for the whole list: nobody's change may be in it, and nothing that waits and was not looked at.

        Raises:
            BadInput: the name is not ``<role>/<file>`` of a delegated role, or another file waits for a signature.
            RepositoryInvalid: the list was changed by somebody who does not sign it.
        """
        role = self._role_of(name)
        signed = self._to_sign(name, role)
        target = TargetFile.from_data(name, content, ["sha256"])
        if custom:
            target.unrecognized_fields["custom"] = dict(custom)
        folder = self.folder / "targets" / role
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{target.hashes['sha256']}.{Path(name).name}").write_bytes(content)
        signed.targets[name] = target
        self._bump(role, signed, now)
        return target

    def remove(self, name: str, now: datetime) -> None:
        """Take a file out of its role's list, and its content away.

        Raises:
            BadInput: there is no such file, or another one waits for a signature.
            RepositoryInvalid: see :meth:`add`.
        """
        role = self._role_of(name)
        signed = self._to_sign(name, role)
        target = signed.targets.pop(name, None)
        if target is None:
            raise BadInput(name, "is not in the repository", "List what is there with lfr-provision repository show")
        (self.folder / "targets" / role / f"{target.hashes['sha256']}.{Path(name).name}").unlink(missing_ok=True)
        self._bump(role, signed, now)

    def _to_sign(self, name: str, role: str) -> Targets:
        """A role's newest list, which is to be signed again with another ``name`` in it."""
        signed: Targets = self._believed(role, Targets)
        waiting = self.pending(role)
        others = [other for other in waiting.names if other != name] if waiting is not None else []
        if others and not self._mine(role):
            raise BadInput(
                others[0],
                "waits for another officer's signature, and yours would count for it, too",
                "Look at it and countersign it first, or have its officer sign it again as it ought to be",
            )
        return signed

    def _mine(self, role: str) -> bool:
        """Whether whoever signs here has signed a role's newest list already."""
        signatures = self._read(self._path(role)).signatures
        return self.keys.signers(self.keys.keys(role))[0].public_key.keyid in signatures

    def names(self, role: str) -> tuple[str, ...]:
        """What a delegated role has signed, sorted."""
        return tuple(sorted(self._load(role, Targets).targets))

    @staticmethod
    def _role_of(name: str) -> str:
        role, slash, file = name.partition("/")
        if role not in DELEGATED or not slash or not file or "/" in file or file.startswith("."):
            raise BadInput(
                name, "is not a name such as watchlists/D-1.age", f"Begin with one of {', '.join(DELEGATED)}"
            )
        return role

    # -- several signatures --------------------------------------------------------------------

    def needed(self, role: str) -> int:
        """How many signatures a delegated role's word needs."""
        return int(self._believed("targets", Targets).get_delegated_role(role).threshold)

    def pending(self, role: str) -> Pending | None:
        """What a delegated role has begun to sign and too few have signed yet; None when nothing waits."""
        newest = self._path(role)
        have = self._signatures(newest, role)
        need = self.needed(role)
        if have >= need:
            return None
        before = self._load_from(self._vouched(role), Targets).targets
        now = self._load_from(newest, Targets).targets
        names = tuple(sorted(name for name in {*before, *now} if before.get(name) != now.get(name)))
        return Pending(names, have, need)

    def content(self, name: str) -> bytes:
        """A file that is in its role's newest list, signed by enough people or not.

        Raises:
            BadInput: there is none.
        """
        role = self._role_of(name)
        target = self._load(role, Targets).targets.get(name)
        if target is None:
            raise BadInput(name, "is not in the repository", "List what is there with lfr-provision repository show")
        path = self.folder / "targets" / role / f"{target.hashes['sha256']}.{Path(name).name}"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreUnavailable(str(path), f"cannot be read ({error.strerror})", "Restore it") from None
        if hashlib.sha256(content).hexdigest() != target.hashes["sha256"]:
            raise RepositoryInvalid(str(path), "is not what was signed", "Have it signed again")
        return content

    def waits_as(self, role: str) -> str:
        """Digest of the whole list that waits, for :meth:`countersign`: what was looked at is what is signed."""
        return sha256(self._read(self._path(role)).signed_bytes)

    def countersign(self, role: str, seen: str) -> int:
        """Add one signature to what waits; returns how many there are then.

        Args:
            role: of authorities.
            seen: what :meth:`waits_as` said before it was looked at.

        Raises:
            BadInput: nothing waits, or something else than was seen.
            KeyUnusable: no key of a person who has not signed yet is here.
        """
        waiting = self.pending(role)
        if waiting is None:
            raise BadInput(f"role {role}", "has nothing that waits for a signature", "Ask who signs first")
        path = self._path(role)
        metadata = self._read(path)
        if sha256(metadata.signed_bytes) != seen:
            raise BadInput(
                f"role {role}",
                "was changed while you looked at it: nothing is signed",
                "Look at it again, from the start",
            )
        fresh = [held for held in self.keys.keys(role) if held.public.keyid not in metadata.signatures]
        if not fresh:
            raise KeyUnusable(f"the keys in {self.keys.folder}", "have all signed already", "Ask another officer")
        metadata.sign(self.keys.signers(fresh)[0], append=True)
        replace_file(path, metadata.to_bytes(), mode=0o644)
        return self._signatures(path, role)

    def _signatures(self, path: Path, role: str) -> int:
        metadata = self._read(path)
        targets = self._load("targets", Targets)
        found = targets.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        return len(found.signed)

    def _vouched(self, role: str) -> Path:
        """The newest version of a delegated role's metadata that enough people have signed."""
        for version in range(self._load(role, Targets).version, 0, -1):
            path = self.folder / "metadata" / f"{version}.{role}.json"
            if path.exists() and self._signatures(path, role) >= self.needed(role):
                return path
        raise RepositoryInvalid(f"role {role}", "has no version that enough people signed", "Have it signed")

    # -- publishing ----------------------------------------------------------------------------

    def publish(self, now: datetime) -> None:
        """Tie the present state together and vouch for it for 24 hours. Do it daily, even when nothing changed."""
        self._publish(now, first=False)

    def _publish(self, now: datetime, *, first: bool) -> None:
        snapshot = Snapshot(expires=_until(now, "snapshot")) if first else self._load("snapshot", Snapshot)
        for role in ("targets", *DELEGATED):
            path = self._path(role) if role == "targets" else self._vouched(role)
            version = self._load_from(path, Targets).version
            snapshot.meta[f"{role}.json"] = MetaFile.from_data(version, path.read_bytes(), ["sha256"])
        if not first:
            snapshot.version += 1
        snapshot.expires = _until(now, "snapshot")
        self._save("snapshot", snapshot, self.keys.keys("snapshot"))
        timestamp = Timestamp(expires=_until(now, "timestamp")) if first else self._load("timestamp", Timestamp)
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, self._path("snapshot").read_bytes(), ["sha256"])
        if not first:
            timestamp.version += 1
        timestamp.expires = _until(now, "timestamp")
        timestamp.unrecognized_fields[PUBLISHED] = now.astimezone(UTC).isoformat(timespec="seconds")
        self._save("timestamp", timestamp, self.keys.keys("timestamp"))

    # -- rotation ------------------------------------------------------------------------------

    def rotate(
        self,
        role: str,
        now: datetime,
        *,
        keys: list[HeldKey] | None = None,
        officers: int | None = None,
        signatures: int | None = None,
    ) -> None:
        """Give ``role`` new keys and publish. A root rotation is signed by the old keys and by the new.

        Args:
            role: any role, root included.
            now: for the expiry of what is signed again.
            keys: the new ones, for example of a token; made in files when not given.
            officers: see :meth:`init`; of the role of authorities only, as many as now when not given.
            signatures: the same.

        Raises:
            BadInput: numbers that cannot be, or something waits for another signature.
        """
        old = self.keys.keys(role)
        signed = self._believed(role, Targets) if role in {"targets", *DELEGATED} else None  # by the keys of before
        if role != AUTHORITIES and (officers, signatures) != (None, None):
            raise BadInput(f"role {role}", "needs one signature", f"Several officers sign {AUTHORITIES} only")
        if role in DELEGATED and self.pending(role) is not None:
            raise BadInput(f"role {role}", "has something that waits for another signature", "Have it signed first")
        new = keys or self.keys.generate(role, officers or len(old))
        need = 1
        if role in DELEGATED:
            need = signatures or self.needed(role)
            _check_officers(len(new), need)
            targets = self._believed("targets", Targets)
            self._delegate(targets, role, new, need)
            known = targets.delegations
            assert known is not None
            assert known.roles is not None
            used = {keyid for delegated in known.roles.values() for keyid in delegated.keyids}
            known.keys = {keyid: key for keyid, key in known.keys.items() if keyid in used}
            self._bump("targets", targets, now)
        else:
            root = self._believed("root", Root, need=ROOT_THRESHOLD)
            for held in old:
                root.revoke_key(held.public.keyid, role)
            for held in new:
                root.add_key(held.public, role)
            root.version += 1
            root.expires = _until(now, "root")
            signing = [*old, *new] if role == "root" else self.keys.keys("root")
            self._save("root", root, signing, need=2 * ROOT_THRESHOLD if role == "root" else ROOT_THRESHOLD)
        self.keys.use(role, new)
        if signed is not None:
            signed.version += 1
            signed.expires = _until(now, role)
            self._save(role, signed, new, need=need)
        self.publish(now)

    # -- files ---------------------------------------------------------------------------------

    def _path(self, role: str) -> Path:
        """The newest version of a role's metadata."""
        folder = self.folder / "metadata"
        if role == "timestamp":
            return folder / "timestamp.json"
        found = [int(path.name.split(".")[0]) for path in folder.glob(f"*.{role}.json")]
        if not found:
            raise StoreUnavailable(str(folder), f"holds no metadata of {role}", "Run lfr-provision init")
        return folder / f"{max(found)}.{role}.json"

    def _load(self, role: str, kind: type[Any]) -> Any:
        return self._load_from(self._path(role), kind)

    def _load_from(self, path: Path, kind: type[Any]) -> Any:
        signed = self._read(path).signed
        assert isinstance(signed, kind)
        return copy.deepcopy(signed)

    def _believed(self, role: str, kind: type[Any], *, need: int = 1) -> Any:
        """A role's newest metadata, if its own people signed it: others could else have something signed along.

        Raises:
            RepositoryInvalid: they have not.
        """
        path = self._path(role)
        metadata = self._read(path)
        by = self.keys.signed(role, metadata.signed_bytes, metadata.signatures)
        name = path.name.split(".")[0]
        if by < need or name != str(metadata.signed.version):
            raise RepositoryInvalid(
                str(path),
                "was changed by somebody who does not sign it",
                "Sign nothing; restore it from its backup and find out who can write there",
            )
        return self._load_from(path, kind)

    @staticmethod
    def _read(path: Path) -> Metadata[Any]:
        try:
            return Metadata[Any].from_file(str(path))
        except (DeserializationError, RepositoryError) as error:
            raise RepositoryInvalid(str(path), f"cannot be read ({error})", "Restore it from its backup") from None

    def _bump(self, role: str, signed: Targets, now: datetime) -> None:
        """The next version of a role's word; where several must sign it, one signature of one person."""
        signed.version += 1
        signed.expires = _until(now, role)
        alone = role in DELEGATED and self.needed(role) > 1
        self._save(role, signed, self.keys.keys(role), most=1 if alone else None)

    def _save(self, role: str, signed: Any, keys: list[HeldKey], *, need: int = 1, most: int | None = None) -> None:
        metadata: Metadata[Any] = Metadata(signed)
        done = 0
        for signer in self.keys.signers(keys)[:most]:
            metadata.sign(signer, append=True)
            done += 1
        if done < need:
            raise RepositoryInvalid(
                f"role {role}", f"has {done} of the {need} signatures it needs", "Bring the other key holders' media"
            )
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        replace_file(self.folder / "metadata" / name, metadata.to_bytes(), mode=0o644)

    def root(self) -> bytes:
        """The first root metadata: what a van is given at its enrolment, and trusts from then on."""
        return (self.folder / "metadata" / "1.root.json").read_bytes()


def _check_officers(officers: int, signatures: int) -> None:
    if not 1 <= signatures <= officers <= MOST_OFFICERS:
        cause = f"{signatures} signatures of {officers} officers"
        raise BadInput(
            "the officers' keys", f"cannot be: {cause}", f"Give 1 to {MOST_OFFICERS}, and no more signatures"
        )


def _until(now: datetime, role: str) -> datetime:
    return (now.astimezone(UTC) + LIFETIMES[role]).replace(microsecond=0)
