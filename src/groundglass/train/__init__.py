"""Training: data, networks, one loop for all tasks, and the export of a bundle. Needs the extra ``train``."""

import os

# Large pages for torch's memory, where the system offers them: a small CNN trains up to twice as fast. torch
# reads this once, at its first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
