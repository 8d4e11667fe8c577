"""Cohorts on several processes and machines with Ray (extra ``scale``)."""

import os
import secrets
import sys


def protect() -> None:
    """Set a random token, so that only this process can use the Ray instance that it will start.

    Ray listens on all of the machine's addresses; without a token, anyone who can reach them could run
    programs here. Ray reads these variables when it is imported, so later changes have no effect.
    """
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
