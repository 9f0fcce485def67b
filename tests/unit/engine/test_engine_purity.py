"""The engine is deterministic: no clock, no randomness, no I/O, no threads, nothing of the platform around it.

The list follows what Temporal's workflow sandbox keeps from deterministic code.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import reference

import betting.engine

FOLDER = Path(next(iter(betting.engine.__path__)))
REFERENCE = Path(reference.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))

# Allowed of the standard library; `timedelta` is arithmetic, a clock is not.
FORBIDDEN_MODULES = {
    "asyncio", "concurrent", "ctypes", "fcntl", "getpass", "glob", "http", "importlib", "io", "logging", "mmap",
    "multiprocessing", "os", "pathlib", "platform", "queue", "random", "sched", "secrets", "select", "selectors",
    "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
    "uuid", "warnings", "weakref", "zoneinfo", "locale", "gc", "inspect",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "open", "print", "input", "eval", "exec", "compile", "__import__", "globals", "breakpoint", "id", "hash",
}  # fmt: skip
FORBIDDEN_ATTRIBUTES = {"now", "utcnow", "today", "fromtimestamp", "urandom", "uuid1", "uuid4", "uuid7", "environ"}


def offences(tree: ast.AST) -> Iterator[str]:
    """What deterministic code may not contain."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"imports {n.name}" for n in names if not _allowed(n.name))
            case ast.ImportFrom(module=module, level=level):
                if level or module is None or not _allowed(module):
                    yield f"imports from {module}"
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                yield f"calls {name}()"
            case ast.Attribute(value=ast.Name(id="self")):
                continue
            case ast.Attribute(attr=attr) if attr in FORBIDDEN_ATTRIBUTES:
                yield f"uses .{attr}"
            case ast.AsyncFunctionDef(name=name):
                yield f"{name} is asynchronous"
            case ast.Global(names=names):
                yield f"changes the globals {names}"
            case ast.Constant(value=float()):
                yield f"has a float in line {node.lineno}"
            case ast.BinOp(op=ast.Div(), left=left) if not _is_fraction(tree):
                yield f"divides with /: line {left.lineno}"


def _allowed(module: str) -> bool:
    if module == "betting.engine" or module.startswith("betting.engine."):
        return True
    top = module.split(".", maxsplit=1)[0]
    return top in sys.stdlib_module_names and top not in FORBIDDEN_MODULES


def _is_fraction(tree: ast.AST) -> bool:
    """Modules that work in fractions may divide: the quotient of fractions is exact."""
    return any(isinstance(node, ast.ImportFrom) and node.module == "fractions" for node in ast.walk(tree))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_module_is_pure(path: Path) -> None:
    """Imports only the standard library's deterministic part and the engine; no float anywhere near money."""
    assert list(offences(ast.parse(path.read_text()))) == []


def test_every_module_is_looked_at() -> None:
    """The guard finds the modules it is to guard."""
    assert {"decide.py", "apply.py", "settlement.py"} <= {path.name for path in MODULES}


@pytest.mark.parametrize(
    "code",
    [
        "import time", "import os.path", "from random import choice", "from datetime import datetime\ndatetime.now()",
        "import asyncio", "open('x')", "print(1)", "import uuid", "from betting.runtime import clock", "import asyncpg",
        "from . import decide", "x = 0.5", "x = a / b", "async def f(): ...", "def f():\n    global x",
    ],
)  # fmt: skip
def test_the_guard_bites(code: str) -> None:
    """Each of these would be found."""
    assert list(offences(ast.parse(code)))


def test_reference_shares_no_rule() -> None:
    """The slow twin's rules import nothing of the fast ones; only `lockstep` and `canonical` see both."""
    fast = {"decide", "apply", "settlement", "outcomes", "repeats", "state", "validation"}
    for path in REFERENCE.glob("*.py"):
        if path.name in ("lockstep.py", "canonical.py", "__init__.py"):
            continue
        imported = {
            node.module.removeprefix("betting.engine.").split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("betting.engine.")
        }
        assert not imported & fast, path.name
