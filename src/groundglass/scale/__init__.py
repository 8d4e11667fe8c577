"""Cohorts on several processes and machines, by Ray (extra ``scale``)."""

import os
import secrets
import sys


def protect() -> None:
    """Let only this process use the Ray that it will start, by a random token.

    Ray listens on all of the machine's addresses, and without a token whoever reaches them can run programs here.
    It reads these variables when it is imported, so nothing is changed afterwards.
    """
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
