"""GG111: whether the label can be told from pictures too small to show texture or small lesions."""

from groundglass.audit.check import Check, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.regions import CELLS, thumbnail
from groundglass.audit.measure.telling import tell_at_most_warning


class LabelFromThumbnail(Check[Material]):
    """How well the label is told from a thumbnail of the slice."""

    code = "GG111"
    title = f"Label from a {CELLS} x {CELLS} thumbnail"
    severity = "warning"
    needs = ("two classes",)
    remedy = (
        "Compare the detector with this figure, which takes no sight of texture; bring all slices to one crop, "
        "size and level of the chest, and vary them in training."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from whole slices, averaged to a few cells."""
        return tell_at_most_warning(
            material,
            thumbnail(material.looks.grey),
            f"a {CELLS} x {CELLS} thumbnail",
            "Texture and small lesions are gone from it, so that look, size or position of the picture give the "
            "label away; as blurred lungs are still in it, some of it may be the disease.",
        )
