"""The betting platform: a pure money core (`engine`) and the services around it."""

import os
import sys

# gRPC's core prints connection noise of its own to standard error (from INFO up); what matters reaches our logs as
# statuses. It reads this when it is imported, which no module of ours does before this one.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

if sys.flags.optimize:  # python -O strips assertions, and assertions guard the money
    raise RuntimeError("refusing to start under python -O: the platform's assertions must stay on")
