"""The audit: find causes of overly optimistic figures, in the data or in the detector.

The checks are subclasses of :class:`~groundglass.audit.check.Check` in the modules of ``data`` (of labelled
scans) and ``detector`` (of a bundle on labelled scans); adding a class there adds a check.
"""
