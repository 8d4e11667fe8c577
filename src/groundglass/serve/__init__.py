"""The server: REST API, workers, and a client for Python (extra: serve)."""
