"""Where the evaluation faces lie: beside the checkout, never in it. Tests that need them skip without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("LFR_EVAL_DIR") or Path(__file__).resolve().parents[2] / "shared" / "eval")

needs_faces = pytest.mark.skipif(
    not ROOT.is_dir(), reason=f"the evaluation faces are not at {ROOT}; set LFR_EVAL_DIR to their folder"
)
