"""Results as HTML for notebooks: the headline, the volumes, the warnings and the picture."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

from groundglass.segment.extent import DiseaseExtent, extent_table
from groundglass.segment.stack import StackViewer

NOTICE = "Research use only; not a medical device."


def as_html(
    headline: str,
    picture: Image.Image | None,
    extent: Mapping[str, DiseaseExtent] | None = None,
    warnings: Sequence[str] = (),
    stack: StackViewer | None = None,
) -> str:
    """Self-contained HTML: the headline, the extent of disease, the warnings and the picture as PNG.

    With a stack of slices, the picture is folded away above it.
    """
    header, regions = ((), []) if extent is None else extent_table(extent)
    rows = [header, *regions] if regions else []
    image = ""
    if picture is not None:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
        image = (
            f'<img alt="{escape(headline)}" style="max-width: 100%" src="data:image/png;base64,{encoded}">'
        )
    if stack is not None:
        image = f"<details><summary>Montage</summary>{image}</details>{stack.html()}"
    return f"<div>{figures_html(headline, rows, warnings)}{image}</div>"


def figures_html(title: str, rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """A title, the notice that this is for research, a table and notes."""
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    table = f"<table class='dataframe'>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>" if rows else ""
    listed = "".join(f"<p>Note: {escape(note)}</p>" for note in notes)
    return f"<p><b>{escape(title)}</b><br>{NOTICE}</p>{table}{listed}"
