"""A real kube-apiserver over a real etcd, without nodes and controllers: what the API server itself decides is real.

RBAC, admission (also the restricted Pod Security level), schemas and CEL rules of CRDs, server-side apply, watches and
preconditions are Kubernetes'. Nothing happens by itself: no pod starts, no owner's dependants are collected, a deleted
namespace stays Terminating (every test takes a new one), and ServiceAccounts exist where they were made.
"""

from __future__ import annotations

import json
import secrets
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from betting.embedded.ports import HOST, held_ports
from betting.supervision.server import Server
from betting.supervision.spawning import Command

ROOT = Path(__file__).resolve().parents[2]
# The users with a token that never changes: one may do everything, one nothing.
USERS = {"admin": "system:masters", "nobody": ""}
REQUEST_TIMEOUT_S = 30.0
# It takes 3 s on a quiet machine, ten times as long on one that builds the programs of a cluster.
START_TIMEOUT_S = 150.0
CERTIFICATE_LIFE = timedelta(days=30)

Json = dict[str, Any]


class KubeError(Exception):
    """The API server refused: its status code and its own words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@contextmanager
def running_kube_api(folder: Path) -> Iterator[KubeApi]:
    """A KubeApi of its own on free ports of 127.0.0.1; at the end nothing of it runs.

    The programs are built first if they are not there yet (minutes). Raises SystemExit that says what is missing.
    """
    programs = built(["etcd", "kube-apiserver"])
    with held_ports(3) as ports:
        api = KubeApi(folder, programs, ports)
        try:
            api.start()
            yield api
        finally:
            api.close()


class KubeApi:
    """One API server and its etcd. `running_kube_api` makes one.

    Blocking. Start and restart it in the main thread: its processes end with the thread that started them.
    """

    def __init__(self, folder: Path, programs: dict[str, Path], ports: Sequence[int]) -> None:
        etcd_port, peer_port, port = ports
        self.folder = folder
        self.url = f"https://{HOST}:{port}"
        self.port = port
        self.tokens = {user: secrets.token_hex(16) for user in USERS}
        self.ca_path = folder / "ca.crt"
        self._write_credentials()
        self._etcd = _Etcd(folder, programs["etcd"], etcd_port, peer_port)
        self._server = _ApiServer(self, programs["kube-apiserver"], etcd_port)
        self._tls = ssl.create_default_context(cafile=str(self.ca_path))

    def start(self) -> None:
        """Starts both, then installs crds/*.yaml where the repository has them. Raises PlatformError, with the log."""
        self._etcd.start(START_TIMEOUT_S)
        self._server.start(START_TIMEOUT_S)
        self.install(sorted((ROOT / "crds").glob("*.yaml")))

    def close(self) -> None:
        """Ends both. Also a paused one."""
        self._server.kill()
        self._etcd.kill()

    def pause(self) -> None:
        """SIGSTOP: the API server accepts connections and answers nothing."""
        self._server.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._server.signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9 of the API server: connections are refused. Its etcd keeps what was written."""
        self._server.kill()

    def restart(self) -> None:
        """Kills the API server if it runs, and starts it on the same port; returns once it is ready."""
        self._server.kill()
        self._server.start(START_TIMEOUT_S)

    def recover(self) -> None:
        """Makes the API server answer again, whatever was done to it."""
        if self._server.runs():
            self.resume()
        if not self.is_ready():
            self.restart()

    def pids(self) -> list[int]:
        """The ids of the API server's process and etcd's."""
        return [self._server.pid, self._etcd.pid]

    def kubeconfig(self, user: str = "admin", *, url: str | None = None, namespace: str = "default") -> Path:
        """The path of a kubeconfig for one of USERS. url: another way to the API server, say through a proxy."""
        return self._kubeconfig(self.tokens[user], url, namespace)

    def service_account(self, namespace: str, name: str, rules: Iterable[Json] = (), *, url: str | None = None) -> Path:
        """Makes a ServiceAccount, and a Role and RoleBinding of its name with these rules; the path of its kubeconfig.

        What exists already is replaced, so new rules take the place of old ones.
        """
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": name},
            "rules": list(rules),
        }
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        self.apply(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}", account)
        self.apply(f"{rbac}/roles/{name}", role)
        self.apply(f"{rbac}/rolebindings/{name}", binding)
        return self.service_account_kubeconfig(namespace, name, url=url)

    def service_account_kubeconfig(self, namespace: str, name: str, *, url: str | None = None) -> Path:
        """The path of a kubeconfig with the rights of a ServiceAccount that exists."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 7200},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        token = self.request("POST", path, request)["status"]["token"]
        return self._kubeconfig(token, url, namespace)

    def create_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """A namespace with its ServiceAccount `default`: no pod is admitted without it, and no controller makes it."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}
        self.request("POST", "/api/v1/namespaces", namespace)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        self.request("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account)

    def install(self, paths: Iterable[Path]) -> None:
        """Applies the CustomResourceDefinitions in these files; returns once their kinds can be used."""
        for path in paths:
            for crd in filter(None, yaml.safe_load_all(path.read_text("utf-8"))):
                self._install_crd(crd)

    def apply(self, path: str, manifest: Json) -> Json:
        """Server-side apply as field manager `test`, by force, to the object of this path. Raises KubeError."""
        return self.request("PATCH", f"{path}?fieldManager=test&force=true", manifest, "application/apply-patch+yaml")

    def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content_type: str = "application/json",
        user: str = "admin",
    ) -> Json:
        """A request as one of USERS; the object that the API server answers with.

        Raises KubeError when it refuses, OSError when it does not answer.
        """
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.tokens[user]}", "Content-Type": content_type},
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S, context=self._tls) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise KubeError(error.code, error.read().decode(errors="replace")) from None
        return json.loads(text) if text.startswith(b"{") else {}

    def is_ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            self.request("GET", "/readyz")
        except (KubeError, OSError):
            return False
        return True

    def _install_crd(self, crd: Json) -> None:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        self.apply(path, crd)
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        version = crd["spec"]["versions"][0]["name"]
        # The kind is served a moment after its definition was accepted: ask until it is, within the test's timeout.
        while True:
            try:
                self.request("GET", f"/apis/{group}/{version}/{plural}?limit=1")
            except KubeError as error:
                if error.code != 404:
                    raise
            else:
                return

    def _kubeconfig(self, token: str, url: str | None, namespace: str) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": url or self.url, "certificate-authority": str(self.ca_path)}}
            ],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        }
        path = self.folder / f"kubeconfig-{secrets.token_hex(4)}.json"
        path.write_text(json.dumps(config), "utf-8")
        path.chmod(0o600)
        return path

    def _write_credentials(self) -> None:
        ca_key, ca = _certificate("ca", None)
        key, certificate = _certificate("kube-apiserver", (ca_key, ca))
        self.ca_path.write_bytes(_pem(ca))
        (self.folder / "server.crt").write_bytes(_pem(certificate))
        (self.folder / "server.key").write_bytes(_key_pem(key))
        (self.folder / "accounts.key").write_bytes(_key_pem(ec.generate_private_key(ec.SECP256R1())))
        lines = [f'{self.tokens[user]},{user},{user},"{group}"\n' for user, group in USERS.items()]
        (self.folder / "tokens.csv").write_text("".join(lines), "utf-8")


class _Etcd(Server):
    """What the API server keeps, without fsync: a test's writes need not survive the machine."""

    def __init__(self, folder: Path, program: Path, port: int, peer_port: int) -> None:
        super().__init__("etcd", log_path=folder / "etcd.log", stop_signal=signal.SIGTERM)
        self._url, self._peer_url = f"http://{HOST}:{port}", f"http://{HOST}:{peer_port}"
        self._argv = (
            str(program),
            *("--data-dir", str(folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", self._url, "--advertise-client-urls", self._url),
            *("--listen-peer-urls", self._peer_url, "--initial-advertise-peer-urls", self._peer_url),
            *("--initial-cluster", f"default={self._peer_url}"),
        )
        self._folder = folder

    def command(self) -> Command:
        return Command(self._argv, self._folder)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=2) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False


class _ApiServer(Server):
    """The API server as hack/minicluster runs it, without what only nodes need."""

    def __init__(self, api: KubeApi, program: Path, etcd_port: int) -> None:
        folder = api.folder
        super().__init__("kube-apiserver", log_path=folder / "kube-apiserver.log", stop_signal=signal.SIGTERM)
        self._api = api
        self._argv = (
            str(program),
            *("--etcd-servers", f"http://{HOST}:{etcd_port}"),
            *("--bind-address", HOST, "--advertise-address", HOST, "--secure-port", str(api.port)),
            *("--endpoint-reconciler-type", "none"),  # there is no other one, and a loopback address is no endpoint
            *("--tls-cert-file", str(folder / "server.crt"), "--tls-private-key-file", str(folder / "server.key")),
            *("--client-ca-file", str(api.ca_path), "--token-auth-file", str(folder / "tokens.csv")),
            *("--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction"),
            # Commands in pods are passed on to kubelets as they came, not as SPDY: `exec_kubelet` has no SPDY.
            *("--feature-gates", "TranslateStreamCloseWebsocketRequests=false"),
            *("--service-cluster-ip-range", "10.202.0.0/16"),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", str(folder / "accounts.key")),
            *("--service-account-signing-key-file", str(folder / "accounts.key")),
        )

    def command(self) -> Command:
        return Command(self._argv, self._api.folder)

    def is_ready(self) -> bool:
        return self._api.is_ready()

    def runs(self) -> bool:
        """Whether its process runs, be it paused."""
        return self._child is not None and self._child.poll() is None


def built(names: list[str]) -> dict[str, Path]:
    """Where these programs are; built first, if need be, in a process of its own (hack/ is no package)."""
    builder = ROOT / "hack" / "minicluster" / "build.py"
    done = subprocess.run([sys.executable, str(builder), *names], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{builder.relative_to(ROOT)} could not provide {', '.join(names)}: see above")
    return {name: Path(path) for name, path in (line.split(" ", 1) for line in done.stdout.splitlines())}


_Signed = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def _certificate(name: str, issuer: _Signed | None) -> _Signed:
    """A certificate authority, or a server's certificate for 127.0.0.1 that an authority signs."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key, issuer_name = (key, subject) if issuer is None else (issuer[0], issuer[1].subject)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_key_usage(authority=issuer is None), critical=True)
    )
    if issuer is not None:
        names = [x509.IPAddress(IPv4Address(HOST)), x509.DNSName("kubernetes.default.svc")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(issuer_key, hashes.SHA256())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
