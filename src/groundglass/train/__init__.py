"""Training: data, networks, one loop for all tasks, and the export of a bundle. Needs the extra ``train``."""

import os

# Use large memory pages for torch if the system offers them: a small CNN trains up to twice as fast. torch
# reads this once, at its first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
