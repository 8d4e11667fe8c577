"""Scans: readers, windowing and the synthetic chest phantom. Knows nothing of the rest of Groundglass."""
