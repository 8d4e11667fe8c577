"""The synthetic chest phantom: axial chest CT in HU, made from geometry, with exact lung and lesion masks.

It is for tests and demonstrations without real data. It is much simpler than any patient, so a detector's score
on it never supports a claim of accuracy.
"""

from groundglass.phantom.lesions import Lesion, LesionRecord, random_lesions
from groundglass.phantom.phantom import Phantom, make_phantom
from groundglass.phantom.write import write_phantom, write_phantom_set

__all__ = [
    "Lesion",
    "LesionRecord",
    "Phantom",
    "make_phantom",
    "random_lesions",
    "write_phantom",
    "write_phantom_set",
]
