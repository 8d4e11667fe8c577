"""Checks of a detector on labelled scans, one a file; each sees a :class:`~groundglass.audit.trial.Trial`."""
