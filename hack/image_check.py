"""Check the image without a container engine: every target is built and started, and the databases are broken.

Needs root and buildah. Each program runs as process 1 of a process namespace, as user 10001 on a read-only root, with
/tmp and /data of its own; its network is the machine's.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import compose_check
import psutil
import psycopg
import redis
from image import ENDS_WITH_US, Buildah, cache, clean_up_when_ended, image_name, targets, version
from image import build as build_images
from redis.backoff import NoBackoff
from redis.retry import Retry

from betting.embedded.ports import held_ports

USER = 10001
WITHIN_S = 120.0
POLL_S = 0.1
LOCK = Path("/run/lock/betting-image-check.lock")
WORKING = "betting-image-check-"  # begins the names of buildah's working containers
DATABASES = ("postgres", "redis")
_SETTING = re.compile(r"\b(BETTING|OPERATOR)_[A-Z]+")
# Becomes process 1 of the container: $1 is its root, $2 its data, the rest its command.
_ENTER = """
root=$1 data=$2; shift 2
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
mount --bind /dev "$root/dev" && mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc" && mount -t tmpfs -o mode=1777 tmpfs "$root/tmp" && mount --bind "$data" "$root/data"
exec chroot --userspec=10001:10001 "$root" /usr/bin/env -i "$@"
"""


class Container:
    """A target as it would run in a container."""

    def __init__(self, root: Path, config: dict[str, Any], data: Path) -> None:
        self._root = root
        self.data = data
        self.command: list[str] = config["Cmd"]
        self._environment: list[str] = config["Env"]
        self.log = data.with_suffix(".log")
        self._variables: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, command: list[str] | None = None, *, network: str = "", hosts: str = "", **environment: str
    ) -> None:
        """Starts its command, or another one. network: a namespace's name; hosts: the text of /etc/hosts."""
        (self._root / "etc" / "hosts").write_text(hosts)
        self._variables = [*self._environment, *(f"{name}={value}" for name, value in environment.items())]
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", _ENTER, "sh"]
        entered = ["nsenter", f"--net=/run/netns/{network}"] if network else []
        program = [str(self._root), str(self.data), *self._variables, *(command or self.command)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*ENDS_WITH_US, *entered, *isolated, *program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def passes(self, probe: list[str]) -> bool:
        """Whether a command that runs inside, as a health check does, ends with exit code 0."""
        children = psutil.Process(self._running().pid).children()
        if not children:
            return False
        into = ["nsenter", f"--target={children[0].pid}", "--net", "--mount", "--pid"]
        entered = ["chroot", f"--userspec={USER}:{USER}", str(self._root), "/usr/bin/env", "-i", *self._variables]
        done = subprocess.run([*into, *entered, *probe], capture_output=True, check=False)
        return done.returncode == 0

    @property
    def has_ended(self) -> bool:
        """Whether it was started and runs no more."""
        return self._running().poll() is not None

    def output(self) -> str:
        """What it printed."""
        return self.log.read_text("utf-8", "replace").strip()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to process 1."""
        [first] = psutil.Process(self._running().pid).children()
        first.send_signal(number)

    def wait(self) -> int:
        """The exit code. After SIGKILL it is that of `unshare`, which says nothing."""
        return self._running().wait(WITHIN_S)

    def kill(self) -> None:
        """Ends it in any case."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def until(self, answers: Callable[[], Any]) -> Any:
        """What it answers, once it does. Raises AssertionError with what it printed when it ends instead."""
        deadline_s = time.monotonic() + WITHIN_S
        while True:
            try:
                return answers()
            except (psycopg.OperationalError, redis.ConnectionError) as error:
                ended = self._running().poll() is not None
                if ended or time.monotonic() > deadline_s:
                    raise AssertionError(f"{error}\n{self.output()}") from error
                time.sleep(POLL_S)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


@contextmanager
def container(target: str) -> Iterator[Container]:
    """A target, ready to be started, with an empty data folder of its user. Nothing of it stays."""
    buildah = Buildah().command
    name = image_name(target, version())
    config = json.loads(_output([*buildah, "inspect", "--type=image", name]))["OCIv1"]["config"]
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    working = _output([*buildah, "from", f"--name={WORKING}{folder.name}", name])
    data = folder / "data"
    data.mkdir(mode=0o700)
    os.chown(data, USER, USER)
    try:
        found = Container(Path(_output([*buildah, "mount", working])), config, data)
        try:
            yield found
        finally:
            found.kill()
    finally:
        _output([*buildah, "rm", working])
        shutil.rmtree(folder)


def remove_leftovers() -> None:
    """Removes the working containers, with their mounts, and the folders of a run that was killed."""
    buildah = Buildah().command
    # null where there is none
    listed: list[dict[str, Any]] = json.loads(_output([*buildah, "containers", "--json"]) or "null") or []
    for name in (each["containername"] for each in listed if each["containername"].startswith(WORKING)):
        _say(f"removing {name}, which an interrupted run left")
        _output([*buildah, "rm", name])
    shutil.rmtree(_folder(), ignore_errors=True)
    _folder().mkdir(parents=True)


@contextmanager
def alone() -> Iterator[None]:
    """Only one image-check of a machine runs: the leftovers that it removes first must not be another's. SystemExit."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("another image-check runs on this machine: try again when it has ended") from None
        yield


def _folder() -> Path:
    return cache() / "image-check"


def check_refusal(target: str) -> None:
    """A program without settings says which it needs, on one line, and ends with exit code 2 (`migrate`: 1)."""
    with container(target) as program:
        program.start(["betting", "--version"])
        assert program.wait() == 0, program.output()
        assert program.output().startswith(f"betting {version()} "), program.output()
        program.start()
        code = program.wait()
        assert code == (1 if target == "migrate" else 2), f"{code}: {program.output()}"
        assert len(program.output().splitlines()) == 1, program.output()
        assert target == "migrate" or _SETTING.search(program.output()), program.output()
        _say(f"{target}: {program.output()}")


def check_postgres() -> None:
    """It makes its cluster as process 1, recovers after kill -9 under the same process id, and stops by SIGINT.

    Meanwhile its volume has become writable for a group, as on Kubernetes, and its password another.
    """
    with container("postgres") as server, held_ports(1) as [port]:
        old, new = secrets.token_hex(16), secrets.token_hex(16)

        def query(statement: str, password: str) -> Any:
            dsn = f"postgresql://betting:{password}@127.0.0.1:{port}/betting"
            with psycopg.connect(dsn, autocommit=True) as connection:
                result = connection.execute(statement)
                return result.fetchall() if result.description else []

        server.start(BETTING_POSTGRES_PASSWORD=old, BETTING_POSTGRES_PORT=str(port))
        server.until(lambda: query("CREATE TABLE kept AS SELECT 42 AS answer", old))
        volume = server.data
        assert (volume / "data" / "postmaster.pid").read_text().splitlines()[0] == "1"
        server.signal(signal.SIGKILL)
        server.wait()
        for path in (volume, *volume.rglob("*")):
            path.chmod(path.stat().st_mode | 0o060 | (0o2010 if path.is_dir() else 0))
        began_s = time.monotonic()
        server.start(BETTING_POSTGRES_PASSWORD=new, BETTING_POSTGRES_PORT=str(port))
        assert server.until(lambda: query("SELECT answer FROM kept", new)) == [(42,)]
        recovered_s = time.monotonic() - began_s
        server.signal(signal.SIGINT)
        assert server.wait() == 0, server.output()
        _say(f"postgres: killed, recovered in {recovered_s:.1f} s with a new password, stopped")


def check_redis() -> None:
    """It starts fenced, is empty and another life after kill -9, and stops by SIGTERM."""
    with container("redis") as server, held_ports(1) as [port]:
        password = secrets.token_hex(16)
        settings = {"BETTING_REDIS_PASSWORD": password, "BETTING_REDIS_PORT": str(port)}
        lives = []
        for number in (signal.SIGKILL, signal.SIGTERM):
            server.start(**settings)
            with redis.Redis(port=port, password=password, retry=Retry(NoBackoff(), 0)) as client:
                info = server.until(client.info)
                assert info["role"] == "slave", info
                lives.append(info["availability_zone"])
                client.replicaof("NO", "ONE")
                client.set("stake", "100")
                assert client.dbsize() == 1
            server.signal(number)
            code = server.wait()
            assert number == signal.SIGKILL or code == 0, f"{code}: {server.output()}"
        assert len(set(lives)) == 2, lives
        _say("redis: fenced in two lives, stopped")


def _output(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Raises SystemExit with what is missing, and AssertionError with what a program printed."""
    if os.geteuid() != 0 or shutil.which("buildah") is None:
        raise SystemExit("image-check needs root, buildah and mmdebstrap: apt-get install buildah mmdebstrap")
    clean_up_when_ended()
    with alone():
        remove_leftovers()
        build_images(Buildah(), targets(), version())
        for target in targets():
            if target not in DATABASES and target != "platform":
                check_refusal(target)
        check_postgres()
        check_redis()
        compose_check.check(container, _say)
    _say(f"{len(targets())} targets built and started")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
