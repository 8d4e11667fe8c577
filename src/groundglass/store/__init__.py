"""What the server keeps: the studies it received, the queue of work on them, and their history (extra: serve)."""
