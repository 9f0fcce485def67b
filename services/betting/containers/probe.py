"""`python -m betting.containers.probe grpc|redis`: exit code 0 if the server of this container serves, else 1.

For health checks that run inside a container; Postgres has its own, `pg_isready`. grpc: readiness, at
BETTING_HEALTH_ADDRESS. redis: whether it answers a PING, at BETTING_REDIS_PORT; an error is an answer (no password was
given, it loads its data, it has too many clients): only a server that runs sends one.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_S = 2.0


def grpc_serves(address: str) -> bool:
    """Whether grpc.health.v1 at host:port says SERVING for the whole server."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def redis_answers(port: int) -> bool:
    """Whether the Redis of this container answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-"))
    except OSError:
        return False


def main(arguments: list[str]) -> int:
    """The exit code."""
    match arguments:
        case ["grpc"]:
            return 0 if grpc_serves(os.environ.get("BETTING_HEALTH_ADDRESS", "")) else 1
        case ["redis"]:
            return 0 if redis_answers(int(os.environ.get("BETTING_REDIS_PORT", "6379"))) else 1
    sys.stderr.write("usage: python -m betting.containers.probe grpc|redis\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
