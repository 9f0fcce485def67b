"""The commands of docs/runbooks, as they stand there: by the real kubectl, which has to do each of them."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import runbooks
from kube_api import KubeApi
from on_call import OTHER_POD, POD, OnCall, on_call
from operator_rounds import Operator, going_round
from plugin_runs import Ended
from rebalanced import rebalanced

from betting_operator.kubernetes.status import Healer

AT_ONCE = 3
# For these the role `operate` is not enough, as docs/runbooks/README.md says.
MORE_RIGHTS = re.compile(r"kubectl (-n \S+ )?(delete|cordon|uncordon|taint|top|\w+ (nodes?|hpa|pvc|events -A)\b)")
EDITED = re.compile(r" edit (\w+) .*# (spec\.[\w.]+)")
# kubectl says so of what it did not find, and ends with exit code 0.
NOT_FOUND = ("No resources found", "No events found", "unknown field")


@dataclass(frozen=True)
class Person:
    """Somebody on call with a shell. operate: the kubeconfig of who has that role; admin: of who may do everything."""

    kubectl: Path
    programs: Path
    folder: Path
    before: str
    operate: Path
    admin: Path

    async def types(self, command: str) -> Ended:
        """Runs it in bash as it is, and asks for the field that is named behind an edit."""
        if edited := EDITED.search(command):
            command += f"\nkubectl explain {edited[1]}.{edited[2]}"
        if "-o jsonpath" in command:  # kubectl prints nothing for a field that is not there
            command = command.replace("-o jsonpath", "--allow-missing-template-keys=false -o jsonpath")
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", f"{self.before}\n{command}"),
            cwd=self.folder,
            env=os.environ
            | {
                "HOME": str(self.folder),
                "PATH": f"{self.kubectl.parent}:{self.programs}:{os.environ['PATH']}",
                "KUBECONFIG": str(self.admin if MORE_RIGHTS.search(command) else self.operate),
                "KUBE_EDITOR": "true",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Ended(process.returncode or 0, out.decode(), err.decode())

    async def problem(self, command: str) -> str:
        """Why it has not done what it should; "" if it has."""
        ended = await self.types(command)
        told = f"exit code {ended.code}: {ended.out}{ended.err}"
        if " top " in command:
            return "" if ended.err == "error: Metrics API not available\n" else told
        if ended.code or any(each in told for each in NOT_FOUND):
            return told
        return "nothing was printed" if "jsonpath" in command and not ended.out.strip() else ""


@pytest.fixture
async def scene(
    kube_api: KubeApi, namespace: str, demo: str, dsn: str, programs: Path, tmp_path: Path
) -> AsyncIterator[OnCall]:
    async with on_call(kube_api, namespace, demo, dsn, programs, tmp_path) as found:
        yield found


@pytest.fixture
def on_shift(
    kube_api: KubeApi, kubectl: str, programs: Path, tmp_path: Path, namespace: str, person: Callable[[str], Path]
) -> Person:
    """Has set what the index says, to the names that it gives but for the namespace."""
    before = f"{runbooks.settings()}\nNAMESPACE={namespace}"
    return Person(Path(kubectl), programs, tmp_path, before, person("operate"), kube_api.kubeconfig())


async def problems(commands: Iterable[str], problem: Callable[[str], Awaitable[str]]) -> dict[str, str]:
    """Those that fail, several tried at once."""
    several = asyncio.Semaphore(AT_ONCE)

    async def tried(command: str) -> tuple[str, str]:
        async with several:
            return command, await problem(command)

    found = await asyncio.gather(*(tried(each) for each in commands))
    return {command: told for command, told in found if told}


def found_in(pages: Iterable[Path]) -> dict[str, list[str]]:
    """Each command, and the pages that have it."""
    found: dict[str, list[str]] = {}
    for page in pages:
        for command in itertools.chain.from_iterable(runbooks.blocks(page)):
            found.setdefault(command, []).append(page.name)
    return found


async def test_every_command_for_kubernetes_does_what_it_says(
    scene: OnCall, on_shift: Person, operator: Operator, operators_rights: Path, namespace: str, dsn: str
) -> None:
    """With the rights that the index says, in the namespace of a platform that has all of what they name."""
    commands = found_in(runbooks.pages())
    looks = [each for each in commands if runbooks.act_of(each) is None or " edit " in each]  # the editor does nothing
    acts = sorted((each for each in commands if each not in looks), key=lambda each: runbooks.act_of(each) or 0)
    assert (len(looks) > 40, len(acts) > 10) == (True, True)
    wrong = await problems(looks, on_shift.problem)
    async with (
        rebalanced(operators_rights, namespace, dsn, (POD, OTHER_POD)),
        going_round(operator, Healer(runs=True)),
    ):
        for command in acts:
            if told := await on_shift.problem(command):
                wrong[command] = told
            scene.mend()
    assert {command: (commands[command], told) for command, told in wrong.items()} == {}


WRONG = [
    "kubectl -n $NAMESPACE get healingaktions",
    "kubectl -n $NAMESPACE get pods --owide",
    "kubectl -n $NAMESPACE get pods -l app.kubernetes.io/name=bets-service",
    "kubectl -n $NAMESPACE get pods --field-selector spec.node=$NODE",
    "kubectl -n $NAMESPACE get bp $PLATFORM -o jsonpath='{.status.phases}'",
    "kubectl -n $NAMESPACE get bp $PLATFORM -o jsonpath='{.status.conditions[?(@.type==\"Redy\")].message}'",
    "kubectl -n $NAMESPACE edit bp $PLATFORM   # spec.services.betService.replica",
    "kubectl -n $NAMESPACE describe pod $PODS",
    "kubectl -n $NAMESPACE logs $POD | grep 'never said'",
    "kubectl -n $NAMESPACE get secrets",
    "kubectl -n $NAMESPACE exec deploy/$PLATFORM-monitor -- date -u",
    "kubectl -n $NAMESPACE exec $POD -- date --utd",
    'kubectl -n $NAMESPACE exec $POD -- sh -c \'psql "$BETTING_POSTGRES_DSN" -c "SELECT * FROM betting.shard"\'',
    "kubectl -n $NAMESPACE top pots",
    "kubectl betting -n $NAMESPACE shard",
    "kubectl betting -n $NAMESPACE heal plan --al",
]


async def test_the_check_itself_finds_what_is_wrong(scene: OnCall, on_shift: Person) -> None:
    """A typing error, a flag, a kind, a label, a field, a variable, a right, a table that are not there."""
    found: dict[str, Any] = await problems(WRONG, on_shift.problem)
    assert sorted(found) == sorted(WRONG)
