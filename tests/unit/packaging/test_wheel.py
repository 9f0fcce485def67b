"""What `pip install .` installs: everything that the platform needs, made from the sources alone."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Every module of the package is imported, and what is no module is found: -S leaves out this checkout, which the
# environment of the tests has on its path, and keeps the other packages.
_TRY_IT = """
import importlib, pkgutil, sys
sys.path[:0] = [sys.argv[1]]
sys.path.append(sys.argv[2])
import betting, betting_operator
assert betting.__file__.startswith(sys.argv[1]), betting.__file__
for package in (betting, betting_operator):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(("__main__", "exec_child")):
            importlib.import_module(module.name)
from betting.journal.schema import migration_ids
from betting.feeds.seasons import shipped_seasons
from betting.audit.catalogue import checks
assert migration_ids()[0] == "0001.journal"
assert shipped_seasons()
assert checks()
"""


def _run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a source distribution in which nothing is generated, and installed into a folder."""
    room = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(room), folder=ROOT)
    [archive] = room.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(room / "sources", filter="data")
    [sources_folder] = (room / "sources").iterdir()
    assert not list(sources_folder.rglob("*_pb2.py"))
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(room), folder=sources_folder)
    [wheel] = room.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile")
    _run(*pip, "--target", str(room / "installed"), str(wheel), folder=room)
    return room / "installed"


def test_every_module_and_every_data_file_is_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Nothing is missing that a checkout has: generated code, migrations, seasons, the queries of the audit."""
    site_packages = sysconfig.get_path("purelib")
    _run(sys.executable, "-I", "-S", "-c", _TRY_IT, str(installed), site_packages, folder=tmp_path)


def test_the_installed_command_says_which_release_it_is(installed: Path, tmp_path: Path) -> None:
    """`betting --version` names the release and the newest migration it knows."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; sys.path.append(sys.argv[2]); sys.argv = ['betting', '--version']\n"
        "from betting.cli.main import main\n"
        "main()"
    )
    site_packages = sysconfig.get_path("purelib")
    said = _run(sys.executable, "-I", "-S", "-c", code, str(installed), site_packages, folder=tmp_path)
    assert re.fullmatch(r"betting \d+\.\d+\.\d+ \(schema \d{4}\.\w+, Python 3\.\d+\.\d+\)\n", said)


def test_kubectl_finds_the_plugin_that_is_installed(installed: Path, tmp_path: Path) -> None:
    """By the name of its command in the PATH: kubectl-betting."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; sys.path.append(sys.argv[2]); sys.argv = ['x', '--version']\n"
        "from importlib.metadata import entry_points\n"
        "[command] = entry_points(group='console_scripts', name='kubectl-betting')\n"
        "command.load()()"
    )
    site_packages = sysconfig.get_path("purelib")
    said = _run(sys.executable, "-I", "-S", "-c", code, str(installed), site_packages, folder=tmp_path)
    assert re.fullmatch(r"kubectl-betting \d+\.\d+\.\d+\n", said)


def test_generated_code_runs_on_every_version_that_may_be_installed(installed: Path) -> None:
    """The least versions of grpcio and protobuf are not older than what the pinned generator writes its code for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    least = dict(re.findall(r"^(\S+?)>=(\S+)$", "\n".join(project["project"]["dependencies"]), re.MULTILINE))
    grpc_code = (installed / "betting" / "v1" / "bet_pb2_grpc.py").read_text("utf-8")
    message_code = (installed / "betting" / "v1" / "bet_pb2.py").read_text("utf-8")
    [for_grpc] = re.findall(r"GRPC_GENERATED_VERSION = '(.+)'", grpc_code)
    [for_protobuf] = re.findall(r"Protobuf Python Version: (.+)", message_code)
    assert _numbers(least["grpcio"]) >= _numbers(for_grpc)
    assert _numbers(least["protobuf"]) >= _numbers(for_protobuf)
    [generator] = [each for each in project["build-system"]["requires"] if each.startswith("grpcio-tools")]
    assert generator in project["project"]["optional-dependencies"]["dev"]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
