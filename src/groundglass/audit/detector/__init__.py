"""Checks of a detector on labelled scans; each examines a :class:`~groundglass.audit.trial.Trial`."""
