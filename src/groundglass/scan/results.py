"""The mark of folders that hold nothing but results of Groundglass, which a search for scans passes over."""

from pathlib import Path

from groundglass.files import write_text

RESULTS = ".groundglass"
"""The name of the file that marks such a folder."""


def mark_results(folder: Path) -> None:
    """Mark a folder; raises GroundglassError where it cannot be written."""
    write_text(folder / RESULTS, "Results of Groundglass: a search for scans passes this folder over.\n")
