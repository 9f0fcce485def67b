"""The control plane: etcd, API server, controller manager and scheduler, in a network namespace of their own."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

from minicluster.programs import RUN, Program, run, start

NAMESPACES = "control-plane"
ADDRESS = "10.200.0.1"
"""The control plane's address for nodes and pods."""
API_PORT = 6443
SERVICE_RANGE = "10.202.0.0/16"
_SERVICE_ADDRESS = "10.202.0.1"
DNS_ADDRESS = "10.202.0.10"
_PKI = RUN / "pki"
CA = _PKI / "ca.crt"
AUDIT_LOG = RUN / "audit.log"
"""Every request that a program in a pod made of the API server, system pods left out."""
_AUDIT_POLICY = RUN / "audit.json"
_DAYS = "365"
_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"


def make_credentials(node_names: list[str]) -> None:
    """Make both certificate authorities, the certificates they issue, and a token for each client of the API server."""
    _PKI.mkdir(mode=0o700)
    _authority("ca")
    _authority("front")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    addresses = [ADDRESS, "127.0.0.1", _SERVICE_ADDRESS]
    _certificate(
        "ca", "apiserver", "/CN=kube-apiserver", [*(f"DNS:{n}" for n in names), *(f"IP:{a}" for a in addresses)]
    )
    _certificate("ca", "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    _certificate("front", "aggregator", "/CN=aggregator")
    run(["openssl", "genrsa", "-out", str(_PKI / "sa.key"), "2048"])
    clients = [
        ("admin", "admin", "system:masters"),
        ("controller-manager", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
        ("proxy", "system:kube-proxy", ""),
        ("kube-router", "kube-router", ""),
        *((name, f"system:node:{name}", "system:nodes") for name in node_names),
    ]
    lines = []
    for name, user, group in clients:
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{name},"{group}"\n')
        write_kubeconfig(credential(name), f"https://{ADDRESS}:{API_PORT}", token)
    _write_private(_PKI / "tokens.csv", "".join(lines))


def credential(client: str) -> Path:
    """The kubeconfig of a client inside the cluster's network."""
    return RUN / f"{client}.conf"


def admin_token() -> str:
    """The token of the cluster's administrator."""
    token: str = json.loads(credential("admin").read_text("utf-8"))["users"][0]["user"]["token"]
    return token


def write_kubeconfig(path: Path, server: str, token: str) -> None:
    """Write a kubeconfig (JSON is YAML) that needs no other file."""
    authority = base64.b64encode(CA.read_bytes()).decode()
    name = "betting-cluster"
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    _write_private(path, json.dumps(config, indent=1))


def start_api(binaries: dict[str, Path]) -> dict[str, subprocess.Popen[bytes]]:
    """Start etcd and the API server; return their processes by name."""
    _AUDIT_POLICY.write_text(json.dumps(_audit_policy()), "utf-8")
    return {
        "etcd": _start("etcd", binaries["etcd"], _etcd_flags()),
        "apiserver": _start("apiserver", binaries["kube-apiserver"], _api_server_flags()),
    }


def start_controllers(binaries: dict[str, Path]) -> dict[str, subprocess.Popen[bytes]]:
    """Start controller manager and scheduler, with Kubernetes' own defaults for everything that takes time."""
    manager = {
        "kubeconfig": credential("controller-manager"),
        "leader-elect": "false",
        "use-service-account-credentials": "true",
        "service-account-private-key-file": _PKI / "sa.key",
        "root-ca-file": CA,
    }
    scheduler = {"kubeconfig": credential("scheduler"), "leader-elect": "false"}
    return {
        "controller-manager": _start("controller-manager", binaries["kube-controller-manager"], manager),
        "scheduler": _start("scheduler", binaries["kube-scheduler"], scheduler),
    }


def _etcd_flags() -> dict[str, object]:
    return {
        "data-dir": RUN / "etcd",
        "listen-client-urls": _ETCD,
        "advertise-client-urls": _ETCD,
        "listen-peer-urls": _ETCD_PEER,
        "initial-advertise-peer-urls": _ETCD_PEER,
        "initial-cluster": f"default={_ETCD_PEER}",
        "unsafe-no-fsync": "true",  # the cluster is thrown away; other disks' work should not slow it
        "log-level": "warn",
    }


def _api_server_flags() -> dict[str, object]:
    return {
        "etcd-servers": _ETCD,
        "bind-address": "0.0.0.0",  # noqa: S104 - of its own network namespace
        "advertise-address": ADDRESS,
        "secure-port": API_PORT,
        "tls-cert-file": _PKI / "apiserver.crt",
        "tls-private-key-file": _PKI / "apiserver.key",
        "client-ca-file": CA,
        "token-auth-file": _PKI / "tokens.csv",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-cluster-ip-range": SERVICE_RANGE,
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": _PKI / "sa.key",
        "service-account-signing-key-file": _PKI / "sa.key",
        "audit-policy-file": _AUDIT_POLICY,
        "audit-log-path": AUDIT_LOG,
        "audit-log-maxsize": "100",  # MB
        "kubelet-client-certificate": _PKI / "kubelet-client.crt",
        "kubelet-client-key": _PKI / "kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",
        # What metrics-server is reached through.
        "requestheader-client-ca-file": _PKI / "front.crt",
        "requestheader-allowed-names": "aggregator",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": _PKI / "aggregator.crt",
        "proxy-client-key-file": _PKI / "aggregator.key",
        "enable-aggregator-routing": "true",
    }


def _audit_policy() -> dict[str, Any]:
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    }


def _start(name: str, binary: Path, flags: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = [str(binary), *(f"--{flag}={value}" for flag, value in flags.items())]
    return start(Program(name, NAMESPACES, command))


def _authority(name: str) -> None:
    made = ["-subj", f"/CN={name}", "-keyout", str(_PKI / f"{name}.key"), "-out", str(_PKI / f"{name}.crt")]
    run(["openssl", "req", "-x509", *_new_key(), "-days", _DAYS, *made])


def _certificate(authority: str, name: str, subject: str, alternatives: list[str] | None = None) -> None:
    request = run(["openssl", "req", *_new_key(), "-subj", subject, "-keyout", str(_PKI / f"{name}.key")])
    extensions = _PKI / f"{name}.ext"
    lines = ["extendedKeyUsage=serverAuth,clientAuth"]
    if alternatives:
        lines.append(f"subjectAltName={','.join(alternatives)}")
    extensions.write_text("\n".join(lines), "utf-8")
    issuer = ["-CA", str(_PKI / f"{authority}.crt"), "-CAkey", str(_PKI / f"{authority}.key"), "-CAcreateserial"]
    made = ["-days", _DAYS, "-extfile", str(extensions), "-out", str(_PKI / f"{name}.crt")]
    run(["openssl", "x509", "-req", *issuer, *made], sent=request)


def _new_key() -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def _write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content, "utf-8")
