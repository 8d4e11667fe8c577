"""The server: REST API, workers, and a Python client (extra: serve)."""
