"""tflite-runtime in its own environment, asked from here: its last release cannot live beside today's numpy.

Run as a program by that environment's Python, it answers one question: what a model makes of a picture.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.prefix) / "tflite" / "bin" / "python"
"""As scripts/setup makes it."""


def outputs(reference: str, picture: NDArray[Any], *, threads: int = 1) -> list[NDArray[Any]]:
    """What tflite-runtime makes of one picture."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "asked.npy"), Path(folder, "answered.npz")
        np.save(asked, picture)
        command = [PYTHON, "-m", "tests.other_runtime", reference, str(threads), asked, answered]
        done = subprocess.run(
            command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        with np.load(answered) as found:
            return [found[name] for name in sorted(found.files)]


def main() -> None:
    """In the other environment."""
    from edge.sight import runtime

    reference, threads, asked, answered = sys.argv[1:]
    model = runtime.load(reference, runtime="tflite-runtime", threads=int(threads))
    found = [np.array(each) for each in model.run(np.load(asked))]
    np.savez(answered, **{f"{n:02d}": each for n, each in enumerate(found)})


if __name__ == "__main__":
    main()
