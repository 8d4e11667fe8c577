"""Scans: readers and windowing. Imports nothing from the rest of Groundglass."""
