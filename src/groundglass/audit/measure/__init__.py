"""How the audit measures: what several checks share, and what is more than a check's own few lines."""
