"""What a notebook shows of a result: the picture, what was found, the volumes, and what must be known of it."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

from groundglass.segment.shares import EXTENT_HEADER, DiseaseExtent, extent_rows

NOTICE = "Research use only; not a medical device."


def as_html(
    headline: str,
    picture: Image.Image | None,
    extent: Mapping[str, DiseaseExtent] | None = None,
    warnings: Sequence[str] = (),
) -> str:
    """HTML that needs no other file: the headline, the picture as PNG, the extent of disease and the warnings."""
    parts = [f"<p><b>{escape(headline)}</b><br>{NOTICE}</p>"]
    if extent is not None:
        parts.append(_table(extent))
    parts += [f"<p>Note: {escape(warning)}</p>" for warning in warnings]
    if picture is not None:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
        parts.append(
            f'<img alt="{escape(headline)}" style="max-width: 100%" src="data:image/png;base64,{encoded}">'
        )
    return f"<div>{''.join(parts)}</div>"


def _table(extent: Mapping[str, DiseaseExtent]) -> str:
    rows = (EXTENT_HEADER, *extent_rows(extent))
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{lines}</table>"
