"""Writes docs/operating/settings.md and the known variables from the settings classes. --check: are they current?

A setting is described by the comment above it in its class.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
import types
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import betting
import betting_operator
from betting.embedded.topology import SERVICES, THE_ODDS_API
from betting.runtime.settings import ServiceSettings, variable

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operating" / "settings.md"
VARIABLES = ROOT / "services" / "betting" / "runtime" / "variables.py"

# Read by something else than a settings class.
OTHERS = {
    "BETTING_TERMINATION_LOG": "File the boot id is written to at the start (/dev/termination-log); unset: none.",
    "BETTING_BOOT_ID": "Name of this life of a process, given by whoever starts it; unset: a random one.",
    "BETTING_SUPERVISED_IN": "Data folder of the supervisor that started a process; set by it, for finding left-overs.",
}
_UNITS = {
    "_minor": "minor units of the currency",
    "_bytes": "bytes",
    "_bytes_max": "bytes",
    "_kib": "KiB",
    "_days": "days",
    "_per_user_s": "per second",
    "_per_address_s": "per second",
    "_address": "host:port",
    "_dsn": "URL",
    "_url": "URL",
}
_HEAD = """# Settings

Every process of the platform is told by its environment. Made by `make gen` from the settings classes.

- A duration is a number of seconds (`2.5`) or ISO 8601 (`PT2.5S`).
- A variable `BETTING_…` that nothing reads is refused by name when a process starts, with the nearest one that is read.
  One that another service reads is not: one environment may serve all.
- `betting up` passes the environment on to its processes. What it sets itself (addresses, database, Redis, secret,
  shards) it says it has overridden; the feed of The Odds API runs where `BETTING_ODDS_API_KEY` is set.
"""


class Setting(NamedTuple):
    """One row of the page."""

    variable: str
    kind: str
    unit: str
    default: str
    text: str


def classes() -> list[type[ServiceSettings]]:
    """The settings class of every service, from the modules called `settings`, in the order of the topology."""
    for package in (betting, betting_operator):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith(".settings"):
                importlib.import_module(module.name)
    order = [each.module for each in (*SERVICES, THE_ODDS_API)]
    return sorted(ServiceSettings.__subclasses__(), key=lambda each: order.index(each.__module__.rpartition(".")[0]))


def settings_of(owner: type[ServiceSettings]) -> Iterator[Setting]:
    """What a class adds to those it extends, in its own order."""
    texts = _comments(owner)
    inherited = {} if owner is ServiceSettings else ServiceSettings.model_fields
    for name, field in owner.model_fields.items():
        if name not in inherited:
            yield Setting(variable(name), _kind(field), _unit(name, field), _default(field), texts.get(name, ""))


def page() -> str:
    """The whole page."""
    names = {each.module: each.name for each in (*SERVICES, THE_ODDS_API)}
    parts = [_HEAD, "## Every service\n", _table(settings_of(ServiceSettings))]
    for each in classes():
        name = names[each.__module__.rpartition(".")[0]]
        parts += [f"## {name}\n", _table(settings_of(each))]
    others = [Setting(name, "text", "", "unset", text) for name, text in OTHERS.items()]
    parts += ["## Set by whoever starts a process\n", _table(iter(others))]
    return "\n".join(parts)


def variables() -> str:
    """The module that every process checks its environment against."""
    names = {variable(field) for each in (ServiceSettings, *classes()) for field in each.model_fields} | OTHERS.keys()
    lines = "".join(f'        "{name}",\n' for name in sorted(names))
    return (
        '"""Every variable that some part of the platform reads. Made by `make gen`; do not edit."""\n\n'
        f"from __future__ import annotations\n\nVARIABLES = frozenset(\n    {{\n{lines}    }}\n)\n"
    )


def _table(rows: Iterator[Setting]) -> str:
    head = "| variable | type | unit | default | |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(f"| `{r.variable}` | {r.kind} | {r.unit} | {r.default} | {r.text} |\n" for r in rows)


def _comments(owner: type[ServiceSettings]) -> dict[str, str]:
    """The comment lines right above each field, as one text."""
    lines = inspect.getsource(owner).splitlines()
    [tree] = ast.parse("\n".join(lines)).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            first = statement.lineno - 1
            begin = first
            while lines[begin - 1].strip().startswith("#"):
                begin -= 1
            text = " ".join(line.strip().removeprefix("#").strip() for line in lines[begin:first])
            found[statement.target.id] = text.replace("|", "\\|")
    return found


def _plain(annotation: Any) -> Any:
    """Without `| None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        [annotation] = [each for each in get_args(annotation) if each is not type(None)]
    return annotation


def _kind(field: FieldInfo) -> str:
    annotation = _plain(field.annotation)
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(annotation))
    names = {SecretStr: "secret", str: "text", bool: "`true` or `false`", int: "integer", timedelta: "duration"}
    return names.get(annotation, "path" if annotation is Path else "number") + _limits(field)


def _limits(field: FieldInfo) -> str:
    signs = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
    found = [
        f"{signs[type(each)][0]} {_shown(getattr(each, signs[type(each)][1]))}"
        for each in field.metadata
        if type(each) in signs
    ]
    return f", {', '.join(found)}" if found else ""


def _unit(name: str, field: FieldInfo) -> str:
    if _plain(field.annotation) is timedelta:
        return "seconds"
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.default
    if isinstance(value, SecretStr) or value in (None, ""):
        return "unset"
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.15g}"
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def main() -> int:
    """Exit code 1 with --check when a file is missing or not current."""
    wanted = {PAGE: page(), VARIABLES: variables()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current: run make gen")
        return 1 if stale else 0
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    print("wrote docs/operating/settings.md and runtime/variables.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
