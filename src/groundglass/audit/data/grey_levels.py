"""GG110: whether the label can be told from grey levels, wherever they are."""

from groundglass.audit.check import Check, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.regions import grey_statistics
from groundglass.audit.measure.telling import tell_at_most_warning


class LabelFromGreyLevels(Check[Material]):
    """How well the label is told from the histogram of grey levels."""

    code = "GG110"
    title = "Label from grey levels alone"
    severity = "warning"
    needs = ("two classes",)
    remedy = (
        "Start from DICOM and use one window for all slices; where there are pictures only, vary contrast and "
        "brightness in training, and report how the detector does with grey levels changed."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from the grey statistics of whole slices."""
        return tell_at_most_warning(
            material,
            grey_statistics(material.looks.grey),
            "grey levels alone",
            "Wherever they lie, they differ between the classes in window, contrast, exposure or share of air; "
            "lesions make lungs brighter, so some of it may be the disease.",
        )
