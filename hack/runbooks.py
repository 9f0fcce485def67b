"""Writes docs/runbooks from the table of diagnoses: the index and every page's head. --check: are they current?"""

from __future__ import annotations

import sys
from pathlib import Path

from betting_operator.healing.diagnoses import TABLE, Entry, Kind, Severity
from betting_operator.kubernetes.healing_actions import DIAGNOSIS_LABEL

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "runbooks"
HUMAN = "## What you should do"
# Nothing is done about these, and nobody is alerted: they have no HealingAction.
WITHOUT_ACTION = {kind for kind, entry in TABLE.items() if entry.severity is None and entry.heals.startswith("nothing")}
# What people set before they copy the commands of a page; tests/kubernetes/test_runbooks.py runs all of them.
ON_KUBERNETES = """\
## On Kubernetes

The commands of each page are for `kubectl` and [`kubectl betting`](../operator/kubectl.md). They can be copied as they
are once this is set, to names of yours:

```sh
NAMESPACE=betting                        # the label namespace of the alert
PLATFORM=demo                            # kubectl -n $NAMESPACE get bettingplatforms
POD=demo-bet-service-6d8f9c7b5d-x2lqm    # whom it is about: TARGET of kubectl -n $NAMESPACE get healingactions
NODE=node-7                              # where that runs: kubectl -n $NAMESPACE get pod $POD -o wide
SHARD=3                                  # which it is about: kubectl betting -n $NAMESPACE shards
```

Whatever it is, look at this first:

```sh
kubectl betting -n $NAMESPACE status
kubectl betting -n $NAMESPACE heal plan
kubectl -n $NAMESPACE get healingactions
kubectl -n $NAMESPACE get pods -o wide
```

What only looks and what changes something stand in different blocks; each block may be pasted as a whole.

The chart's role `operate` ([rights](../operator/kubectl.md#rights)) is enough, but for `kubectl delete`, `kubectl top`,
and what is about nodes, volume claims and autoscalers. `edit` opens the resource in your editor; the field that is
meant stands behind it. Where a GitOps controller owns the resource, change it there.

## On a laptop

`betting …` is run where `betting up` was, in the folder with `.betting`. A NAME is that of a
process in `betting status`.

## All of them

"""
ALERTED = {
    None: "nobody: it is in the record",
    Severity.NOTE: "a person, for information",
    Severity.WARN: "a person, to look at it today",
    Severity.PAGE: "a person, at once",
}


def head(kind: Kind) -> str:
    """What the table says of a diagnosis."""
    entry = TABLE[kind]
    return (
        f"# {kind.value}\n\n**It means** {entry.means}.\n\n**Concluded when** {entry.needs}.\n\n"
        f"**Not concluded from time in which** {uncounted(entry)}.\n\n"
        f"**What was done**: {entry.heals}.\n\n"
        f"**Who is alerted**: {ALERTED[entry.severity]}.\n\n"
        f"**Look at it on Kubernetes** ([what to set before](README.md#on-kubernetes)):\n\n"
        f"```sh\n{look(kind)}```\n\n"
    )


def look(kind: Kind) -> str:
    """The commands that show a diagnosis, and what was done about it."""
    done = f"kubectl -n $NAMESPACE get healingactions -l {DIAGNOSIS_LABEL}={kind.value}\n"
    return "kubectl betting -n $NAMESPACE status\n" + ("" if kind in WITHOUT_ACTION else done)


def uncounted(entry: Entry) -> str:
    """Which time does not count: a full window starts again after it."""
    return "; ".join(entry.voids) or "— (it rests on a fact, not on time)"


def index() -> str:
    """All of them in one table."""
    rows = [
        f"| [{kind.value}]({kind.value}.md) | {e.means} | {e.needs} | {uncounted(e)} | {e.heals} "
        f"| {e.severity or '—'} |"
        for kind, e in TABLE.items()
    ]
    return (
        "# Runbooks\n\nOne for each diagnosis of the healer, which alerts, `kubectl get healingactions` and\n"
        "`betting heal log` name. The heads are made from `betting_operator/healing/diagnoses.py` by `make gen`.\n\n"
        f"{ON_KUBERNETES}"
        "| diagnosis | means | evidence it needs | time that does not count | what heals it | alert |\n"
        "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )


def page(kind: Kind, old: str) -> str:
    """The page with a current head; what people wrote below it stays."""
    _, found, below = old.partition(HUMAN)
    return head(kind) + (HUMAN + below if found else HUMAN + "\n")


def main() -> int:
    """Exit code 1 with --check when a page is missing, empty for people, or not current."""
    check = "--check" in sys.argv[1:]
    wanted = {FOLDER / "README.md": index()}
    for kind in Kind:
        path = FOLDER / f"{kind.value}.md"
        wanted[path] = page(kind, path.read_text("utf-8") if path.exists() else "")
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    empty = [path for path, text in wanted.items() if text.rstrip().endswith(HUMAN)]
    if check:
        for path in sorted({*stale, *empty}):
            print(f"{path.name}: not current, or says nothing to people: run make gen and write what to do")
        return 1 if stale or empty else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text, "utf-8")
    print(f"wrote {len(wanted)} pages to docs/runbooks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
