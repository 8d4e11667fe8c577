"""Checks of labelled scans; each examines a :class:`~groundglass.audit.material.Material`."""
