"""The audit: what makes a figure look better than the detector is, found in the data or in the detector.

A check is a file in ``data`` (of labelled scans) or in ``detector`` (of a bundle on labelled scans) that holds one
subclass of :class:`~groundglass.audit.check.Check`; adding a file adds a check. How things are measured is in
``measure``, where several checks share it.
"""
