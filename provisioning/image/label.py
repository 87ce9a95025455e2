"""Labels for media and vans, to be printed: the van's name, and a QR code that finds the line of the ledger again.

A label holds no secret: who finds a medium learns its van's name, its serial number and its image's version.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from provisioning.image.flash import Flashed
from provisioning.image.ledger import code_of

__all__ = ["label_text", "labels_page"]

LONG = 10
"""Characters of a name beyond which it is printed smaller."""
STYLE = """
@page { size: A4; margin: 10mm }
body { font: 7.5pt/1.3 sans-serif; margin: 0; color: #000; background: #fff }
ul { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 3mm }
li { box-sizing: border-box; width: 70mm; height: 32mm; border: .3mm solid #000; padding: 2mm; display: flex; gap: 2mm }
li { break-inside: avoid; overflow: hidden }
svg { width: 27mm; height: 27mm; flex: none }
h2 { font-size: 15pt; line-height: 1.1; margin: 0 0 1mm; overflow-wrap: anywhere }
h2.long { font-size: 9pt }
p { margin: 0; overflow-wrap: anywhere }
"""


def label_text(line: Flashed) -> str:
    """What the QR code says: words for a person with any reader, in the order of a ledger's line."""
    return f"LFR-VAN {line.van} MEDIUM {line.serial} CODE {code_of(line.secret)}"


def labels_page(lines: Iterable[Flashed]) -> str:
    """A page of labels, 70 by 32 mm each, as HTML.

    Args:
        lines: media that were flashed for a van.
    """
    import segno  # noqa: PLC0415 - only offices and benches have it

    labels = []
    for line in lines:
        code = segno.make(label_text(line), error="m", micro=False).svg_inline(omitsize=True, border=2)
        size = "long" if len(line.van) > LONG else "short"
        labels.append(
            f'<li>{code}<div><h2 class="{size}">{escape(line.van or "no van yet")}</h2>'
            f"<p>medium {escape(line.serial)}</p><p>{escape(line.board)} {escape(line.version)}, epoch {line.epoch}</p>"
            f"<p>flashed {escape(line.at[:10])}</p><p>code {code_of(line.secret)}</p></div></li>"
        )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Labels of vans</title>'
        f"<style>{STYLE}</style></head><body><ul>{''.join(labels)}</ul></body></html>\n"
    )
