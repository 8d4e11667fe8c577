"""A DICOM node: it receives chest CT from a PACS, and sends the results back (extra: pacs)."""
