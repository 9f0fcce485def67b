"""Rolling a Deployment back to the template that was rolled out before, purely.

Two write to one Deployment, and neither fights the other:

1. The operator notes on each Deployment which templates were rolled out, with the schema of the database and the
   formats of journal entries that bet-services read then (`rolled-out`).
2. The healer, for a workload that crashes again and again, finds the newest of them that is another one than the
   present, checks that no format has moved since, and names the template that does not work (`rolled-back-from`).
3. While the spec asks for exactly that template, the operator applies the earlier one in its place, from the ReplicaSet
   that still runs it: its pods stay. As soon as the spec asks for another template, that one is rolled out.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from betting_operator.kubernetes import schema
from betting_operator.kubernetes.deployments import GENERATION_ANNOTATION
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.manifests import SECRETS_ANNOTATION, TEMPLATE_ANNOTATION, Manifest

REPLICA_SETS = Resource("apps/v1", "ReplicaSet", "replicasets")
# On a Deployment: the template that does not work, as the healer says.
ROLLED_BACK_ANNOTATION = f"{schema.GROUP}/rolled-back-from"
# On a Deployment: the templates that were rolled out, the latest last, as JSON.
ROLLED_OUT_ANNOTATION = f"{schema.GROUP}/rolled-out"
# As many as a Deployment keeps ReplicaSets of (revisionHistoryLimit).
ROLLED_OUT_MAX = 3
_GENERATION = "BETTING_GENERATION"
_NAMED_MAX = 5


@dataclass(frozen=True)
class RolledOut:
    """A template whose pods were all available. schema: the newest migration then; formats: of journal entries, that
    every bet-service read then, () where none ran."""

    template: str
    schema: str
    formats: tuple[int, ...]


def common(formats: Iterable[Iterable[int]]) -> tuple[int, ...]:
    """Formats that all of these read."""
    sets = [set(each) for each in formats]
    return tuple(sorted(set.intersection(*sets))) if sets else ()


def template_of(found: Manifest) -> str:
    """The hash of a Deployment's template, as it was applied, or of the one that a ReplicaSet has; "" if not ours."""
    if found.get("kind") == "ReplicaSet":
        found = found["spec"]["template"]
    return str((found["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION) or "")


def rolled_back_from(deployment: Manifest | None) -> str:
    """The template that the healer says does not work; "" while it says nothing."""
    return str(((deployment or {}).get("metadata", {}).get("annotations") or {}).get(ROLLED_BACK_ANNOTATION) or "")


def rolled_out(deployment: Manifest | None) -> tuple[RolledOut, ...]:
    """What was noted, the latest last; () of a note that nobody could have written."""
    text = ((deployment or {}).get("metadata", {}).get("annotations") or {}).get(ROLLED_OUT_ANNOTATION) or "[]"
    try:
        return tuple(RolledOut(str(t), str(s), tuple(int(f) for f in formats)) for t, s, formats in json.loads(text))
    except (ValueError, TypeError):
        return ()


def noted(deployment: Manifest, now: RolledOut | None) -> str:
    """The note of a Deployment, with what is rolled out now as the latest and without what does not work; "" for none.
    now: None: nothing new."""
    other = {rolled_back_from(deployment), "" if now is None else now.template}
    found = [each for each in rolled_out(deployment) if each.template not in other]
    if now is not None:
        before = next((each for each in rolled_out(deployment) if each.template == now.template), now)
        # What ran with fewer formats once does so again.
        found.append(before if before.formats else now)
    kept = found[-ROLLED_OUT_MAX:]
    return json.dumps([[e.template, e.schema, list(e.formats)] for e in kept], separators=(",", ":")) if kept else ""


def is_rolled_back(wanted: Manifest, live: Manifest | None) -> bool:
    """Whether the template that is wanted is the one that the healer says does not work."""
    return live is not None and rolled_back_from(live) == template_of(wanted)


def noted_on(
    wanted: Manifest, live: Manifest, now: RolledOut | None, replica_sets: Sequence[Manifest]
) -> tuple[Manifest, str]:
    """The Deployment to apply: the wanted one with its notes, with the template from before where the healer has asked
    for that; and what was rolled back, for people, "" for nothing. now: see `noted`."""
    more: dict[str, str] = {}
    if note := noted(live, now):
        more[ROLLED_OUT_ANNOTATION] = note
    if rolled_back_from(live):
        more[ROLLED_BACK_ANNOTATION] = ""  # takes the field over, so that the next apply can leave it out
    metadata = wanted["metadata"]
    found = wanted | {"metadata": metadata | {"annotations": {**(metadata.get("annotations") or {}), **more}}}
    before = kept(found, live, replica_sets) if is_rolled_back(wanted, live) else None
    return (found, "") if before is None else (before, what(wanted, before))


def is_to_be_rolled_back(live: Manifest) -> bool:
    """Whether a Deployment still has the template that does not work."""
    return bool(rolled_back_from(live)) and rolled_back_from(live) == template_of(live)


def earlier(deployment: Manifest, replica_sets: Sequence[Manifest]) -> tuple[RolledOut | None, Manifest | None]:
    """The latest template that was rolled out before the present one, and the ReplicaSet that has it."""
    present = template_of(deployment)
    own = _own(deployment, replica_sets)
    noted_ones = [each for each in rolled_out(deployment) if each.template != present]
    for each in reversed(noted_ones):
        if each.template in own:
            return each, own[each.template]
    return (noted_ones[-1] if noted_ones else None), None


def template_named(replica_set: str, deployment: Manifest, replica_sets: Sequence[Manifest]) -> str:
    """The template that the ReplicaSet of this name has; "" where the Deployment has none of this name."""
    named = [each for each in replica_sets if each["metadata"]["name"] == replica_set]
    return next(iter(_own(deployment, named)), "")


def kept(wanted: Manifest, live: Manifest, replica_sets: Sequence[Manifest]) -> Manifest | None:
    """The Deployment as it is wanted, but with the template from before; None where nobody has that any more."""
    template = live["spec"]["template"]
    if is_to_be_rolled_back(live):
        _good, found = earlier(live, replica_sets)
        if found is None:
            return None
        template = found["spec"]["template"]
    template = copy.deepcopy(template)
    labels = template["metadata"].get("labels") or {}
    template["metadata"] = {
        "labels": {name: value for name, value in labels.items() if name != "pod-template-hash"},
        "annotations": template["metadata"].get("annotations") or {},
    }
    annotations = {
        **(wanted["metadata"].get("annotations") or {}),
        TEMPLATE_ANNOTATION: template["metadata"]["annotations"].get(TEMPLATE_ANNOTATION, ""),
        ROLLED_BACK_ANNOTATION: template_of(wanted),
    }
    # The pods keep the generation that they were made with: the next template counts from there.
    if generation := _environment(template).get(_GENERATION):
        annotations[GENERATION_ANNOTATION] = str(generation)
    return wanted | {
        "metadata": wanted["metadata"] | {"annotations": annotations},
        "spec": wanted["spec"] | {"template": template},
    }


def why_moved(before: RolledOut, migrations: Iterable[str], compatible: Mapping[str, str], read: Sequence[int]) -> str:
    """Why a version from before must not run again; "" while all that is stored is as it knows it.

    migrations: all that were applied; compatible: of those that older releases may run with, the newest one that such a
    release must know. read: formats of journal entries that every bet-service that runs reads, () where none runs: one
    that all of them read may have been written.
    """
    for migration in sorted(migrations):
        oldest = compatible.get(migration, "")
        if migration > before.schema and not (oldest and oldest <= before.schema):
            return f"the database has migration {migration}, and the version before knows those up to {before.schema}"
    if not before.formats or not read:
        return "which formats of journal entries are written cannot be told: no bet-service runs, or none did then"
    if new := sorted(set(read) - set(before.formats)):
        return f"journal entries of format {new[-1]} may have been written, which the version before does not read"
    return ""


def why_the_same(present: Manifest, before: Manifest) -> str:
    """Why going from one template of a pod to the one before changes nothing that could help; "" when it may."""
    differs = _described(before, present)
    if differs:
        return ""
    names = [(each["metadata"].get("annotations") or {}).get(SECRETS_ANNOTATION) for each in (before, present)]
    if names[0] != names[1]:
        return "only the values of its Secrets have changed, and earlier ones are not kept: correct the Secret"
    return "the template before does the same"


def image_of(template: Manifest) -> str:
    """The image of a pod's container."""
    return str(template["spec"]["containers"][0].get("image", ""))


def what(wanted: Manifest, kept_one: Manifest) -> str:
    """For people: what of a Deployment does not work, and what runs in its place."""
    differs = _described(kept_one["spec"]["template"], wanted["spec"]["template"])
    return f"{wanted['metadata']['name']} was rolled back by the healer, its pods crashed: {differs or 'its template'}"


def _described(before: Manifest, after: Manifest) -> str:
    old, new = image_of(before), image_of(after)
    if old != new:
        return f"image {new} is not used, {old} is"
    ours, theirs = _environment(before), _environment(after)
    names = sorted(n for n in ours.keys() | theirs.keys() if n != _GENERATION and ours.get(n) != theirs.get(n))
    if names:
        more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
        return f"its settings of before are used: {', '.join(names[:_NAMED_MAX])}{more}"
    if before["spec"]["containers"][0].get("resources") != after["spec"]["containers"][0].get("resources"):
        return "its resources of before are used"
    return ""


def _environment(template: Manifest) -> dict[str, object]:
    found = template["spec"]["containers"][0].get("env") or ()
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in found}


def _own(deployment: Manifest, replica_sets: Iterable[Manifest]) -> dict[str, Manifest]:
    """The ReplicaSets of a Deployment, by the hash of their template; of several of one template the youngest."""
    uid = deployment["metadata"].get("uid")
    by_age = sorted(replica_sets, key=lambda each: str(each["metadata"].get("creationTimestamp") or ""))
    owners = ((each, each["metadata"].get("ownerReferences") or ()) for each in by_age)
    return {template_of(each): each for each, references in owners if any(r.get("uid") == uid for r in references)}
