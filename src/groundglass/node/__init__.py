"""A DICOM node that receives chest CT from a PACS and sends the results back (extra: pacs)."""
