"""Checks of a detector on labelled scans; each looks at a :class:`~groundglass.audit.trial.Trial`."""
