"""The part of a kubelet that the API server passes `kubectl exec` and `kubectl logs` on to.

It runs commands as processes of this machine, with the environment that a test gives to the container. Its protocol is
the kubelet's own (one channel each for stdout, stderr and the end of the command): v5.channel.k8s.io for kubectl's own
`exec`, and v4, which differs in what it says of the end of stdin alone, for the Python client.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from kube_api import KubeApi

NODE = "node-of-commands"
_STDOUT, _STDERR, _ERROR = b"\x01", b"\x02", b"\x03"


@dataclass
class ExecKubelet:
    """environment: of every container. folders: where a container's folder is on this machine. commands: what was run,
    by pod. logs: of each container, by its name. join: makes its node, also when somebody has deleted that."""

    environment: Mapping[str, str]
    folders: Mapping[str, Path]
    commands: list[tuple[str, list[str]]] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    join: Callable[[], None] = lambda: None

    async def log(self, request: web.Request) -> web.Response:
        """What a container has written; of one that never ran there is none."""
        found = self.logs.get(request.match_info["container"])
        return web.Response(status=404, text="no such log") if found is None else web.Response(text=found)

    async def exec(self, request: web.Request) -> web.WebSocketResponse:
        """Runs one command; its end is a Status, as the kubelet says it."""
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await socket.prepare(request)
        argv = request.query.getall("command")
        self.commands.append((request.match_info["pod"], argv))
        for folder, here in self.folders.items():
            argv = [each.replace(folder, str(here)) for each in argv]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, env=dict(self.environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        except OSError as error:
            await socket.send_bytes(_ERROR + json.dumps({"status": "Failure", "message": str(error)}).encode())
            await socket.close()
            return socket
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(_passed_on(socket, _STDOUT, process.stdout), _passed_on(socket, _STDERR, process.stderr))
        await socket.send_bytes(_ERROR + json.dumps(_status(await process.wait())).encode())
        await socket.close()
        return socket


def _status(code: int) -> dict[str, Any]:
    if code == 0:
        return {"status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}


async def _passed_on(socket: web.WebSocketResponse, channel: bytes, stream: asyncio.StreamReader) -> None:
    while data := await stream.read(4_096):
        await socket.send_bytes(channel + data)


@asynccontextmanager
async def exec_kubelet(
    api: KubeApi, environment: Mapping[str, str], folders: Mapping[str, Path], node: str = NODE
) -> AsyncIterator[ExecKubelet]:
    """A node of this API server whose kubelet runs commands; pods are bound to it by `spec.nodeName`."""
    kubelet = ExecKubelet(environment, folders)
    application = web.Application()
    application.add_routes(
        [
            web.get("/exec/{namespace}/{pod}/{container}", kubelet.exec),
            web.get("/containerLogs/{namespace}/{pod}/{container}", kubelet.log),
        ]
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(Path(api.folder) / "server.crt", Path(api.folder) / "server.key")
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    kubelet.join = lambda: _join(api, node, port)
    kubelet.join()
    try:
        yield kubelet
    finally:
        await runner.cleanup()
        api.request("DELETE", f"/api/v1/nodes/{node}")


def _join(api: KubeApi, node: str, port: int) -> None:
    size = {"cpu": "4", "memory": "16Gi", "pods": "110"}
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "capacity": size,
        "allocatable": size,
    }
    api.apply(f"/api/v1/nodes/{node}", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    api.request("PATCH", f"/api/v1/nodes/{node}/status", {"status": status}, "application/merge-patch+json")
