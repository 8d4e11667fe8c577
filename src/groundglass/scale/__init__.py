"""Cohorts on several processes and machines, by Ray (extra ``scale``)."""
