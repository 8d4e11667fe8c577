"""Checks of labelled scans; each looks at a :class:`~groundglass.audit.material.Material`."""
