"""The betting platform: a pure money core (`engine`) and the services around it."""

import sys

if sys.flags.optimize:  # python -O strips assertions, and assertions guard the money
    raise RuntimeError("refusing to start under python -O: the platform's assertions must stay on")
