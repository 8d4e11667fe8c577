"""What type checkers and editors see of groundglass: the public names, loaded lazily by ``__init__.py``."""

from groundglass.commands.evaluate import evaluate as evaluate
from groundglass.data.datasets import Manifest as Manifest
from groundglass.detect.bundle import Bundle as Bundle
from groundglass.detect.detector import Detector as Detector
from groundglass.detect.findings import Findings as Findings
from groundglass.errors import GroundglassError as GroundglassError
from groundglass.errors import ScanError as ScanError
from groundglass.phantom import make_phantom as make_phantom
from groundglass.preprocess import Preprocessing as Preprocessing
from groundglass.recipe.parts import Recipe as Recipe
from groundglass.scan.find import find_series as find_series
from groundglass.scan.read import read as read
from groundglass.scan.scan import Scan as Scan
from groundglass.scan.volume import Volume as Volume
from groundglass.segment.segmenter import Segmenter as Segmenter

__version__: str
