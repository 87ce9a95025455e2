"""A hook of mkdocs.yml: each decision is in the menu, in their order, without being listed there by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Add the menu of decisions."""
    docs = Path(config["docs_dir"])
    pages = [str(path.relative_to(docs)) for path in sorted((docs / "decisions").glob("*.md"))]
    config["nav"] = [*config["nav"], {"Decisions": pages}]
    return config
