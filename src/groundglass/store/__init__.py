"""The server's storage: received studies, the job queue, and the history (extra: serve)."""
