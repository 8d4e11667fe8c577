"""Checks of labelled scans, one a file; each sees a :class:`~groundglass.audit.material.Material`."""
