"""What `make image` tells the build of the machine it runs on, and what it calls the images."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def image() -> ModuleType:
    """The script hack/image.py as a module."""
    spec = importlib.util.spec_from_file_location("image", ROOT / "hack" / "image.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_build_reaches_the_machine_s_package_index(image: ModuleType) -> None:
    """Index and patience come along, the environment's before those of files; folders of this machine do not."""
    listed = "\n".join(
        [
            ":env:.index-url='file:///srv/other'",
            ":env:.find-links='/opt/wheels'",
            "global.cert='/etc/ssl/mine.pem'",
            "global.index-url='file:///srv/index?a=b'",
            "global.timeout='180'",
            "global.trusted-host='one.example\\ntwo.example'",
            "install.timeout='20'",
            "list.format='columns'",
        ]
    )
    assert image.pip_configuration(listed, "/run/secrets/ca").splitlines() == [
        "[global]",
        "cert = /run/secrets/ca",
        "index-url = file:///srv/other",
        "timeout = 20",
        "trusted-host = one.example",
        "    two.example",
    ]


def test_a_machine_without_settings_leaves_pip_to_its_own(image: ModuleType) -> None:
    """No certificate is named that is not there."""
    assert image.pip_configuration("", None) == "[global]\n"


def test_the_platform_s_image_has_the_plain_name(image: ModuleType) -> None:
    """The others are named after their targets."""
    assert image.image_name("platform", "1.2") == "localhost/betting:1.2"
    assert image.image_name("redis", "1.2") == "localhost/betting-redis:1.2"
    assert image.targets()[0] == "platform"
    assert {"operator", "postgres", "redis", "migrate", "wallet-service"} < set(image.targets())
    assert not {"dependencies", "code"} & set(image.targets())


def test_nothing_gets_into_the_build_that_is_not_named(image: ModuleType) -> None:
    """.dockerignore lists what comes in: a secret, a data folder or a new folder does not."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    for line in lines:
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists(), line
    assert "!infrastructure/docker/.env" not in lines
    assert "!infrastructure" not in lines
