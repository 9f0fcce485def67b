"""Options that every command has, as kubectl has them, and the cluster that they lead to."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from betting_operator.plugin.cluster import Cluster


class Output(StrEnum):
    """How something is printed."""

    TABLE = "table"
    JSON = "json"


Shown = Annotated[Output, typer.Option("-o", "--output", help="How it is printed.")]
Namespace = Annotated[
    str, typer.Option("-n", "--namespace", help="Namespace of the platform; default: that of the context.")
]
Context = Annotated[str, typer.Option("--context", help="Context of the kubeconfig; default: the current one.")]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", metavar="FILE", help="Default: $KUBECONFIG, else ~/.kube/config.")
]
Platform = Annotated[
    str, typer.Option("--platform", help="Name of the BettingPlatform; default: the only one of the namespace.")
]
_OF_EVERY_COMMAND = {
    "namespace": (Namespace, ""),
    "context": (Context, ""),
    "kubeconfig": (Kubeconfig, None),
    "platform": (Platform, ""),
}
_FLAGS = ("-n", "--namespace", "--context", "--kubeconfig", "--platform")


@dataclass(frozen=True)
class Target:
    """What the options of a call lead to."""

    namespace: str
    context: str
    kubeconfig: Path | None
    platform: str

    def cluster(self) -> Cluster:
        """Raises PluginError. The client of Kubernetes takes a second to import: `--help` answers without it."""
        from betting_operator.plugin.cluster import Cluster

        return Cluster(self.kubeconfig, self.context, self.namespace, self.platform)


def on_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of every command; its first parameter becomes the Target that they name."""

    @functools.wraps(command)
    def call(**given: Any) -> None:
        command(Target(**{name: given.pop(name) for name in _OF_EVERY_COMMAND}), **given)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _OF_EVERY_COMMAND.items()
    ]
    parameters = [*(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *added]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def ordered(arguments: Sequence[str], groups: Collection[str]) -> list[str]:
    """With these options after the command, which is where they belong, also where they were given before it.

    groups: commands whose next word is a command too.
    """
    words: list[str] = []
    moved: list[str] = []
    rest = list(arguments)
    while rest and len(words) < (2 if words[:1] and words[0] in groups else 1):
        each = rest.pop(0)
        if each.partition("=")[0] not in _FLAGS:
            words.append(each)
            continue
        moved.append(each)
        if "=" not in each and rest:
            moved.append(rest.pop(0))
    return [*words, *moved, *rest]
