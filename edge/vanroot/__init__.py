"""The van's own root helpers: volumes, enrolment, deployment, update, commit, report. Run by /usr/lib/lfr/van."""

from __future__ import annotations

from pathlib import Path

__all__ = ["AS_SERVICE", "CAMERA"]

AS_SERVICE = ("/usr/bin/setpriv", "--reuid=lfr", "--regid=lfr", "--init-groups")
"""Before a command that only the service's account may run. Not ``runuser``: its session modules put the first
process's limits in place of the unit's, and a self-test that locked its memory had no room left for the models."""

CAMERA = Path("/data/lfr/camera")
"""The last deployment's camera, where it was a device or a stream: an image that loses it may not stay."""
