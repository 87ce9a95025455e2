"""A model pack's card: what the file is, where it is from, what it may be used for, and what it costs.

A pack is a folder ``<models>/<name>/`` with a ``card.toml`` and the files that it names. The card is read strictly:
an unknown key is refused, so that a slip of the pen cannot pass for a statement.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edge.errors import ModelRejected
from edge.parsing import toml_as
from edge.records import ChipTemplate

__all__ = ["Card", "InputCard", "SourceCard", "TensorCard", "VariantCard", "default_directory", "read", "split"]

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class CardTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a card. Unknown keys are refused."""


class SourceCard(CardTable, frozen=True):
    """[source]: the published package that the pack was made from.

    ``sha256`` is that of the package as the registry serves it, ``file_sha256`` that of the one file in it.
    """

    registry: str
    package: str
    version: str
    sha256: Digest
    file: str
    file_sha256: Digest
    authors: str


class DataCard(CardTable, frozen=True):
    """[data]: what the weights were trained on and what that means for use."""

    training: str
    terms: str


class InputCard(CardTable, frozen=True):
    """[input]: how a picture must be handed over: (pixel − mean) / divisor, per grey level 0..255.

    Attributes:
        colour: order of the channels in the tensor.
        layout: of the tensor; NHWC always.
        mean: subtracted from each grey level.
        divisor: divides the difference.
        template: the alignment an embedder was trained on; None for a detector.
    """

    colour: Literal["BGR", "RGB"]
    layout: Literal["NHWC"] = "NHWC"
    mean: float = 0.0
    divisor: Annotated[float, Meta(gt=0)] = 1.0
    template: ChipTemplate | None = None


class LimitsCard(CardTable, frozen=True):
    """[limits]: where the model is known to fail or was never measured."""

    known: tuple[str, ...]


class TensorCard(CardTable, frozen=True):
    """One input or output: name, shape, type and, for an integer type, real = (stored − zero_point) · scale."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "int8", "uint8"]
    scale: float | None = None
    zero_point: int | None = None


class VariantCard(CardTable, frozen=True):
    """[variants."…"]: one file.

    Attributes:
        file: path relative to the pack's folder.
        sha256: of the file.
        shipped: False for a reference that is only built on request.
        input: the one input.
        outputs: in the order in which the stage reads them; found in the file by name or, failing that, in order.
        quantisation: the scheme, in words.
        calibration: the file beside the card with what was measured to quantise it; None when nothing was.
        measured: figures with the command that gave them; free in form, since every measure differs.
    """

    file: str
    sha256: Digest
    input: TensorCard
    outputs: tuple[TensorCard, ...]
    quantisation: str
    shipped: bool = True
    calibration: str | None = None
    measured: dict[str, Any] = {}


class Card(CardTable, frozen=True):
    """The whole card."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    kind: Literal["detector", "embedder"]
    description: str
    licence: str
    source: SourceCard
    data: DataCard
    input: InputCard
    limits: LimitsCard
    variants: dict[str, VariantCard]


def default_directory() -> Path:
    """The packs that ship with LFR Edge: beside the source tree, or under the installation's ``share``."""
    beside = Path(__file__).resolve().parents[2] / "models"
    return beside if beside.is_dir() else Path(sys.prefix) / "share" / "lfr-edge" / "models"


def split(reference: str) -> tuple[str, str]:
    """Takes ``pack:variant`` apart.

    Raises:
        ModelRejected: it is not of that form.
    """
    pack, colon, variant = reference.partition(":")
    if not (pack and colon and variant) or "/" in pack or pack.startswith("."):
        raise ModelRejected(
            f"model '{reference}'",
            "it is not written as pack:variant",
            "Write for example mobilefacenet:dynamic-int8",
        )
    return pack, variant


def read(folder: Path) -> Card:
    """Reads ``folder/card.toml``.

    Raises:
        ModelRejected: the card is missing, is no TOML, lacks a field, has an unknown one, or names another pack.
    """
    path = folder / "card.toml"
    try:
        card = toml_as(path.read_bytes(), Card)
    except FileNotFoundError as error:
        there = sorted(p.parent.name for p in folder.parent.glob("*/card.toml"))
        known = f"the packs there are {', '.join(there)}" if there else "there is no pack in that folder"
        raise ModelRejected(str(path), f"the card does not exist; {known}", "Name a pack that exists") from error
    except OSError as error:
        raise ModelRejected(str(path), f"the card cannot be read ({error.strerror})", "Check the file") from error
    except msgspec.DecodeError as error:
        raise ModelRejected(str(path), f"the card is wrong: {error}", "Correct the card; see docs/models.md") from error
    if card.name != folder.name:
        raise ModelRejected(
            str(path), f"the card is for the model '{card.name}'", "Give the folder the name that stands in its card"
        )
    return card
