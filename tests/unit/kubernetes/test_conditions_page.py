"""docs/operator/conditions.md has a line for every phase, condition and reason that the operator can show."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from betting_operator.kubernetes import crd, status

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "operator" / "conditions.md").read_text("utf-8")
CODE = ROOT / "operator" / "betting_operator" / "kubernetes"
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def _of_the_code() -> set[str]:
    """The reasons: of each Condition, Hold, Plan and call of `refused` that is a constant."""
    found = set()
    for module in ("status.py", "reconciler.py", "installation.py", "reconcile.py"):
        for node in ast.walk(ast.parse((CODE / module).read_text("utf-8"))):
            if isinstance(node, ast.Call):
                found |= set(_reasons(node))
    return found


def _reasons(call: ast.Call) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "Plan":
        yield from (each.value.value for each in call.keywords if isinstance(each.value, ast.Constant))
    place = {"Condition": 2, "refused": 1, "Hold": 0}.get(name)
    if place is not None and isinstance(argument := call.args[place], ast.Constant):
        yield str(argument.value)


def _of_the_page(section: str) -> set[str]:
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return set(ROW.findall(text))


def test_every_condition_has_a_section_with_its_reasons() -> None:
    conditions = (status.READY, *status.CONDITIONS, status.ROLLED_OUT, status.HEALING)
    sections = {section: _of_the_page(section) for section in conditions}
    assert all(sections.values())
    assert set().union(*sections.values()) == _of_the_code()


def test_every_phase_has_a_line() -> None:
    """Those that the CRD lists for status.phase, which are those that the code can say."""
    described = crd.status_schema()["properties"]["phase"]["description"]
    phases = set(re.findall(r"\w+", described)) - {"or"}
    assert phases == set(ROW.findall(PAGE.partition("\n## ")[0]))
    said = ast.parse((CODE / "status.py").read_text("utf-8"))
    functions = {node.name: node for node in said.body if isinstance(node, ast.FunctionDef)}
    returned = {part.value for part in ast.walk(functions["_phase"]) if isinstance(part, ast.Constant)}
    assert phases - {"Refused"} <= returned
