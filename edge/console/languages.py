"""The page's words in English and Welsh, from one catalogue: ``languages/cy.po``, compiled by ``scripts/languages``.

English stands in the templates. What is not in the catalogue, such as a reason that the service gives, is shown as it
is, marked as English.
"""

from __future__ import annotations

import gettext
from pathlib import Path

__all__ = ["LANGUAGES", "translations"]

FOLDER = Path(__file__).parent / "languages"
LANGUAGES = {"en": "English"}


def translations(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; English, and any that is not known, needs none."""
    if language not in LANGUAGES or language == "en":
        return gettext.NullTranslations()
    with (FOLDER / f"{language}.mo").open("rb") as file:
        return gettext.GNUTranslations(file)
