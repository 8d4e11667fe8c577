"""Count the project files that ``groundglass predict`` uses, for a PNG and for a DICOM folder.

Works on any checkout: ``PYTHONPATH=CHECKOUT/src python benchmarks/files_entered.py [--list]``. A file counts
if one of its functions is called; modules that are only imported are counted separately.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PROBE = """
import json, runpy, sys, threading
from pathlib import Path

root = Path(sys.argv[1])
entered = set()
def note(frame, event, argument):
    code = frame.f_code
    # The body of a module or a class runs when it is imported, and dataclasses compile their methods.
    if event == "call" and code.co_flags & 2 and code.co_filename.startswith(str(root)):
        entered.add(code.co_filename)
threading.setprofile(note)
sys.setprofile(note)
sys.argv = ["groundglass", *sys.argv[3:]]
try:
    status = 0
    runpy.run_module("groundglass", run_name="__main__")
except SystemExit as end:
    status = end.code
sys.setprofile(None)
loaded = {module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
names = {
    kind: sorted(str(Path(name).relative_to(root)) for name in files if name.startswith(str(root)))
    for kind, files in (("entered", entered), ("imported", loaded))
}
Path(OUT).write_text(json.dumps(names | {"status": status}))
"""


def trace(root: Path, folder: Path, *arguments: str) -> dict[str, list[str]]:
    """Files under ``root`` that a run of the command enters and imports."""
    out = folder / "files.json"
    probe = PROBE.replace("OUT", repr(str(out)))
    command = [sys.executable, "-c", probe, str(root), "--", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    names: dict[str, list[str]] = json.loads(out.read_text())
    return names


def phantoms(folder: Path) -> tuple[Path, Path]:
    """A phantom slice as PNG and a phantom volume as a folder of DICOM files."""
    make = [sys.executable, "-m", "groundglass", "data"]
    slices, volumes = folder / "slices", folder / "volumes"
    for command in (("phantom", "-o", str(slices)), ("volumes", "-o", str(volumes))):
        subprocess.run([*make, *command, "--count", "1"], check=True, stdout=subprocess.DEVNULL)
    pictures = [path for path in slices.rglob("*.png") if path.parent.name not in ("lungs", "lesions")]
    return pictures[0], volumes


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="also name the files")
    arguments = parser.parse_args()
    import groundglass

    root = Path(groundglass.__file__).parent
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        picture, volume = phantoms(folder)
        for title, path in (("PNG", picture), ("DICOM folder", volume)):
            names = trace(root, folder, "predict", str(path), "-o", str(folder / title))
            print(f"{title}: {len(names['entered'])} files entered, {len(names['imported'])} imported")
            if arguments.list:
                print("  " + "\n  ".join(names["entered"]))


if __name__ == "__main__":
    main()
