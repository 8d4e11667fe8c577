"""Draw docs/published/elsewhere.png from the recorded figures: every system at home and at another hospital.

Run it from the repository's root after ``groundglass compare`` has written docs/comparison-*/comparison.csv.
"""

import argparse
from pathlib import Path

import pandas as pd

from groundglass.evaluation.comparison_report import home_and_elsewhere
from groundglass.evaluation.figures import to_png


def main() -> None:
    """Read the recorded comparisons, and write the figure."""
    options = argparse.ArgumentParser(description=__doc__)
    folders = sorted(Path("docs").glob("comparison-*"))
    options.add_argument("folders", nargs="*", type=Path, default=folders, help="folders of comparisons")
    options.add_argument("-o", "--output", type=Path, default=Path("docs/published/elsewhere.png"))
    chosen = options.parse_args()
    pages = {}
    for folder in chosen.folders:
        page = pd.read_csv(folder / "comparison.csv")
        if "unit" in page:
            page = page[page["unit"] == "slice"]
        pages[page.loc[page["part"] != "all", "dataset"].iloc[0]] = page
    chosen.output.write_bytes(to_png(home_and_elsewhere(pages)))
    print(chosen.output)


if __name__ == "__main__":
    main()
