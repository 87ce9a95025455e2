"""Whether a list may be imported, before a byte of it is decrypted. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from edge.errors import AuthorityEnded, BundleRefused, ListTooOld, ModelNotNamed, VanNotNamed, WatchlistNotNamed
from edge.trust.authority import Authority
from edge.watchlist.bundle import Manifest

__all__ = ["IMPORT_WINDOW", "judge_import"]

IMPORT_WINDOW = timedelta(hours=24)
"""A list is imported at most so long before the deployment starts (South Wales Police, LFR SOP)."""


def judge_import(manifest: Manifest, authority: Authority, *, van: str, model: str, now: datetime) -> None:
    """Compare a manifest with the authority and the van; return when the list may be imported.

    The order: who it is for (van, deployment), what it is (list, model), when.

    Raises:
        VanNotNamed, BundleRefused, WatchlistNotNamed, ModelNotNamed, AuthorityEnded, ListTooOld: with the exact cause.
    """
    name = f"list for {manifest.deployment}"
    if van not in manifest.vans or van not in authority.vans:
        who = manifest.vans if van not in manifest.vans else authority.vans
        raise VanNotNamed(
            name,
            f"is for {', '.join(who)} and not for {van}",
            "Ask the intelligence unit for the list made for this van",
        )
    if manifest.deployment != authority.deployment:
        raise BundleRefused(
            name,
            f"is for another deployment than the authority ({authority.deployment})",
            "Ask the intelligence unit for the right list",
        )
    if manifest.watchlist != authority.watchlist:
        raise WatchlistNotNamed(
            name,
            f"is {_short(manifest.watchlist)}, the authority names {_short(authority.watchlist)}",
            "Ask the intelligence unit for the list that the authorising officer reviewed",
        )
    if _bare(manifest.model) != _bare(model):
        raise ModelNotNamed(
            name,
            f"holds templates of model {_short(manifest.model)}, this van runs {_short(model)}",
            "Ask the intelligence unit to build the list with the van's model",
        )
    if now >= authority.ends:
        raise AuthorityEnded(f"authority {authority.deployment}", "is over", "Do not import a list for it")
    early = authority.starts - now
    if early > IMPORT_WINDOW:
        hours = early.total_seconds() / 3600
        raise ListTooOld(
            name,
            f"would be {hours:.0f} hours old at the start; {IMPORT_WINDOW.total_seconds() / 3600:.0f} are allowed",
            "Import it on the day of the deployment",
        )
    if manifest.built > now + timedelta(minutes=5):
        raise ListTooOld(name, "has a date in the future", "Call the engineer: the clock of this van may be wrong")


def _bare(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _short(digest: str) -> str:
    return _bare(digest)[:12]
