"""What every service process shares: settings, gRPC server and client, health, logs, metrics, Postgres and Redis."""
