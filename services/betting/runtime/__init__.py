"""What every service process shares: settings, gRPC server and client, health, logs, metrics, Postgres and Redis."""

from __future__ import annotations

import os

# gRPC's core prints connection noise of its own to stderr; what matters reaches our logs as statuses.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
