"""The van's own root helpers: volumes, enrolment, deployment, update, commit, report. Run by /usr/lib/lfr/van."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CAMERA", "OWNER"]

OWNER = "lfr"
"""The service's account."""

CAMERA = Path("/data/lfr/camera")
"""The last deployment's camera, where it was a device or a stream: an image that loses it may not stay."""
