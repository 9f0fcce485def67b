"""Build the container image of the platform, with docker where it runs and with buildah elsewhere.

`image.py [--target NAME …] [--tag TAG] [--output ARCHIVE]` builds localhost/betting:VERSION (target `platform`), and
localhost/betting-TARGET:VERSION for every other target. Where no docker runs there may be no registry either: then the
base is made of Debian's packages. Layers, base and archives are kept under $BETTING_CACHE (default
~/.cache/betting-cluster).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "infrastructure" / "docker" / "Dockerfile"
NAME = "localhost/betting"
PLATFORM = "platform"
SUITE = "bookworm"  # Debian 12: Python 3.11, as the base of the Dockerfile
PACKAGES = ("usr-is-merged", "python3", "python3-venv", "libstdc++6", "ca-certificates")
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
_MADE_OF = (
    *("--variant=essential", f"--include={','.join(PACKAGES)}", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"),
    *(f"--dpkgopt=path-exclude={each}" for each in _LEFT_OUT),
)
# What pip may need to be told to reach the machine's package index.
_PIP_SETTINGS = frozenset({"index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries"})
_PIP_SECTIONS = ("global", "install", ":env:")  # each goes before those in front of it
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""In front of a command that must not outlive this process, however this one ends."""


class Engine(Protocol):
    """What builds images and keeps them."""

    name: str

    def build(self, target: str, tag: str, base: str | None, secrets: list[str]) -> None: ...

    def export(self, tag: str, archive: Path) -> None: ...

    def size_bytes(self, tag: str) -> int: ...


class Docker:
    """Docker with BuildKit."""

    name = "docker"

    def build(self, target: str, tag: str, base: str | None, secrets: list[str]) -> None:
        """Builds a target. Raises SystemExit when that fails."""
        proxies = [f"--build-arg={name}" for name in _PROXIES if name in os.environ]
        arguments = [] if base is None else [f"--build-arg=BASE_IMAGE={base}"]
        command = ["docker", "build", f"--file={DOCKERFILE}", f"--target={target}", f"--tag={tag}"]
        _run([*command, *arguments, *proxies, *secrets, str(ROOT)], env={**os.environ, "DOCKER_BUILDKIT": "1"})

    def export(self, tag: str, archive: Path) -> None:
        """Writes an image as an archive that `kind load image-archive` and containerd read."""
        _run(["docker", "save", f"--output={archive}", tag])

    def size_bytes(self, tag: str) -> int:
        """The size of an image, unpacked."""
        return int(_output(["docker", "image", "inspect", "--format={{.Size}}", tag]))


class Buildah:
    """Buildah as root, without a daemon and without a registry, with a storage of its own."""

    name = "buildah"

    def __init__(self) -> None:
        self._built: dict[str, str] = {}  # the ids of images, by tag
        for driver, options in (("overlay", ("--storage-opt", "overlay.skip_mount_home=true")), ("vfs", ())):
            home = cache() / "buildah" / driver
            home.mkdir(parents=True, exist_ok=True)
            self.command = [
                *("buildah", "--storage-driver", driver, *options),
                *("--root", str(home / "root"), "--runroot", str(home / "run")),
            ]
            if subprocess.run([*self.command, "info"], capture_output=True, check=False).returncode == 0:
                return
        raise SystemExit(f"buildah cannot keep images in {cache()}: choose another folder with BETTING_CACHE")

    def build(self, target: str, tag: str, base: str | None, secrets: list[str]) -> None:
        """Builds a target. Raises SystemExit when that fails."""
        command = [
            *self.command,
            "build",
            "--isolation=chroot",
            "--layers",
            "--force-rm",
            "--quiet",
            f"--file={DOCKERFILE}",
        ]
        arguments = [f"--build-arg=BASE_IMAGE={base or self._base()}", f"--target={target}", f"--tag={tag}"]
        self._built[tag] = _output([*command, *arguments, *secrets, str(ROOT)])

    def export(self, tag: str, archive: Path) -> None:
        """Writes an image that was built here as an OCI archive, compressed so that containerd reads it fastest."""
        compressed = ("--compression-format=zstd", "--compression-level=1")
        # By its id: another checkout may have given the tag to an image of its own since.
        _run([*self.command, "push", "--quiet", *compressed, self._built[tag], f"oci-archive:{archive}:{tag}"])

    def size_bytes(self, tag: str) -> int:
        """The size of an image, unpacked."""
        folder = _output([*self.command, "from", tag])
        try:
            mounted = _output([*self.command, "mount", folder])
            return 1024 * int(_output(["du", "-sxk", mounted]).split()[0])
        finally:
            _output([*self.command, "rm", folder])

    def _base(self) -> str:
        """The base image, made once of the packages it is to have."""
        digest = hashlib.sha256("\0".join((SUITE, *_MADE_OF)).encode()).hexdigest()[:16]
        name = f"{NAME}-base:{digest}"
        found = subprocess.run([*self.command, "inspect", "--type=image", name], capture_output=True, check=False)
        if found.returncode == 0:
            return name
        if shutil.which("mmdebstrap") is None:
            raise SystemExit(_MISSING.format(what="mmdebstrap"))
        _say("making the base of Debian's packages (a minute, once)")
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            tar = Path(folder) / "base.tar"
            _run_quietly(["mmdebstrap", *_MADE_OF, SUITE, str(tar)])
            (Path(folder) / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
            _run([*self.command, "build", "--quiet", f"--tag={name}", folder], stdout=subprocess.DEVNULL)
        return name


_MISSING = (
    "{what} is missing: without a running docker the image is built by buildah on a base that mmdebstrap makes. "
    "On Debian and Ubuntu: apt-get install buildah mmdebstrap"
)


def found_engine() -> Engine:
    """Docker where one answers, else buildah. Raises SystemExit with what is missing."""
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return Docker()
    if shutil.which("buildah") is None:
        raise SystemExit(_MISSING.format(what="buildah"))
    if os.geteuid() != 0:
        raise SystemExit("docker does not answer, and buildah is used as root here: start docker, or run as root")
    return Buildah()


def cache() -> Path:
    """The folder that keeps what was built."""
    return Path(os.environ.get("BETTING_CACHE") or Path.home() / ".cache" / "betting-cluster")


def targets() -> list[str]:
    """The named targets of the Dockerfile that are programs, `platform` first."""
    names = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    return names[names.index(PLATFORM) :]


def version() -> str:
    """The release of this checkout."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def image_name(target: str, tag: str) -> str:
    """What the image of a target is called."""
    return f"{NAME}:{tag}" if target == PLATFORM else f"{NAME}-{target}:{tag}"


def pip_configuration(listed: str, certificates: str | None) -> str:
    """The pip.conf of the build, from what `pip config list` says here: how to reach the index and nothing else.

    certificates: where the build finds the machine's, if it has any.
    """
    found: dict[str, dict[str, str]] = {section: {} for section in _PIP_SECTIONS}
    for line in listed.splitlines():
        name, equals, value = line.partition("=")
        section, _, name = name.rpartition(".")
        if equals and name in _PIP_SETTINGS and section in found:
            found[section][name] = str(ast.literal_eval(value))
    settings = {name: value for section in found.values() for name, value in section.items()}
    if certificates is not None:
        settings["cert"] = certificates
    lines = [f"{name} = {value}".replace("\n", "\n    ") for name, value in sorted(settings.items())]
    return "\n".join(["[global]", *lines, ""])


@contextmanager
def machine_secrets() -> Iterator[list[str]]:
    """Arguments that let a build use this machine's pip configuration and certificates without keeping them."""
    listed = _output([sys.executable, "-m", "pip", "config", "list"])
    found = re.search(r"^\S+\.cert='([^']+)'$", listed, re.MULTILINE)
    named = [found[1]] if found else []
    bundles = [Path(each) for each in (*named, *(os.environ.get(name, "") for name in _CERTIFICATES)) if each]
    bundle = next((each for each in bundles if each.is_file()), None)
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "pip.conf"
        configuration.write_text(pip_configuration(listed, "/run/secrets/ca" if bundle else None), "utf-8")
        secrets = [f"--secret=id=pip,src={configuration}"]
        yield secrets if bundle is None else [*secrets, f"--secret=id=ca,src={bundle}"]


def build(engine: Engine, wanted: list[str], tag: str, base: str | None = None) -> None:
    """Builds targets and says how large they are and how long they took. Raises SystemExit when one fails."""
    with machine_secrets() as secrets:
        for target in wanted:
            began_s = time.monotonic()
            name = image_name(target, tag)
            engine.build(target, name, base, secrets)
            took_s = time.monotonic() - began_s
            _say(f"{name}: {_mb(engine.size_bytes(name))}, {took_s:.0f} s with {engine.name}")


def export(engine: Engine, name: str, archive: Path) -> None:
    """Writes an image as an archive, whole or not at all. Raises SystemExit when that fails."""
    began_s = time.monotonic()
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        engine.export(name, unfinished)
        unfinished.replace(archive)
    finally:
        unfinished.unlink(missing_ok=True)
    _say(f"{archive}: {_mb(archive.stat().st_size)}, {time.monotonic() - began_s:.0f} s")


def clean_up_when_ended() -> None:
    """Let SIGTERM, by which CI ends a job, do what Ctrl-C does: leave every block in order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _run(command: list[str], *, env: dict[str, str] | None = None, stdout: int | None = None) -> None:
    done = subprocess.run(command, env=env, stdout=stdout, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: its words are above")


def _run_quietly(command: list[str]) -> None:
    """Shows what it printed only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        sys.stderr.buffer.write(done.stdout)
        raise SystemExit(f"{command[0]} failed: its words are above")


def _output(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: its words are above")
    return done.stdout.strip()


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:.0f} MB"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--target", action="append", choices=targets(), help=f"default: {PLATFORM}; may be repeated")
    parser.add_argument("--all-targets", action="store_true", help="every target of the Dockerfile")
    parser.add_argument("--tag", default=version(), help="default: the release, %(default)s")
    parser.add_argument("--base-image", help="instead of the Dockerfile's, or of the one made here")
    parser.add_argument("--output", type=Path, help=f"also write {NAME}:TAG as an archive")
    options = parser.parse_args()
    clean_up_when_ended()
    wanted = targets() if options.all_targets else options.target or [PLATFORM]
    if options.output is not None and PLATFORM not in wanted:
        parser.error(f"--output writes the target {PLATFORM}: name it too")
    engine = found_engine()
    build(engine, wanted, options.tag, options.base_image)
    if options.output is not None:
        export(engine, image_name(PLATFORM, options.tag), options.output)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
