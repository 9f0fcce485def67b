"""Every diagnosis of the healer and the evidence it needs. docs/runbooks is generated from this table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from betting.life import Life


class Certainty(StrEnum):
    """Only what is confirmed is acted on."""

    CONFIRMED = "confirmed"
    SUSPECTED = "suspected"
    CANNOT_TELL = "cannot-tell"


class Severity(StrEnum):
    """How soon a person should look."""

    NOTE = "note"
    WARN = "warn"
    PAGE = "page"


class Void(StrEnum):
    """Time that is no evidence: while it lasts the diagnosis is "cannot tell"; its full time starts again afterwards.

    For the diagnoses that list it in the table; `evidence.counts_from` and `evidence.apply_voids` apply it, and
    `feeds.watch` for a source that makes no progress.
    """

    HEALER = "the healer was paused or late itself, or its term has just begun"
    DATABASE = "Postgres could not be read and written"
    EVERYBODY = "many were silent at once"
    UNSEEN = "the source of the evidence was not reachable, or made no progress itself"
    OVERLOAD = "the process was overloaded but made progress"
    STARTING = "the process was starting"


class Kind(StrEnum):
    """The names of the runbooks."""

    OWNER_DIED = "owner-died"
    PROCESS_DIED = "process-died"
    PROCESS_HUNG = "process-hung"
    OVERLOADED = "overloaded"
    SHARED_CAUSE = "shared-cause"
    NODE_LOST = "node-lost"
    BAD_NODE = "bad-node"
    CRASH_LOOP = "crash-loop"
    HEALING_EXHAUSTED = "healing-exhausted"
    SHARDS_MISPLACED = "shards-misplaced"
    HANDOVER_STUCK = "handover-stuck"
    NOBODY_TO_OWN = "nobody-to-own"
    LEDGER_BROKEN = "ledger-broken"
    SHARD_STOPPED = "shard-stopped"
    DATABASE_AWAY = "database-away"
    FEED_SILENT = "feed-silent"
    CONSUMER_STUCK = "consumer-stuck"
    GREY_FAILURE = "grey-failure"
    HOT_SHARD = "hot-shard"
    MEMORY_CLIMBING = "memory-climbing"
    MEMORY_SHORT = "memory-short"
    REDIS_PRIMARY_GONE = "redis-primary-gone"
    REDIS_PRIMARY_HUNG = "redis-primary-hung"
    REDIS_REPLICA_AWAY = "redis-replica-away"
    REDIS_MEMORY_FULL = "redis-memory-full"
    REDIS_BLOCKED = "redis-blocked"
    DISK_FULL = "disk-full"
    CLOCK_OFF = "clock-off"
    RECORD_NOT_WRITTEN = "record-not-written"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One conclusion.

    target: an instance, owner, shard or part, as text for people; so is the evidence. life: the life that it is about;
    None: it is not about one life.
    """

    kind: Kind
    target: str
    certainty: Certainty
    evidence: tuple[str, ...]
    life: Life | None = None

    @property
    def confirmed(self) -> bool:
        """Whether it may be acted on."""
        return self.certainty is Certainty.CONFIRMED


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table: its meaning, the evidence to confirm it, the action, and the time that does not count.

    severity: of the alert once it is confirmed; None: no alert.
    """

    means: str
    needs: str
    heals: str
    severity: Severity | None = None
    voids: tuple[Void, ...] = ()


_SEEN = (Void.HEALER, Void.EVERYBODY)
_SILENCE = (*_SEEN, Void.UNSEEN, Void.OVERLOAD, Void.STARTING)


TABLE: dict[Kind, Entry] = {
    Kind.OWNER_DIED: Entry(
        "a bet-service that owned shards has ended",
        "its parent (supervisor, kubelet) saw its exit, by boot id; or its heartbeat in Postgres is missing for 10 s, "
        "and the platform no longer runs it, or probes of it are unanswered as long while heartbeats of others arrive, "
        "also where many are silent at once; 3 s are enough for one that is being stopped on a lost node",
        "its life is marked dead; others take its shards at once; it is not killed",
    ),
    Kind.PROCESS_DIED: Entry(
        "any other process has ended",
        "its parent saw its exit, by boot id",
        "nothing by the healer: the platform restarts it, with growing pauses",
    ),
    Kind.PROCESS_HUNG: Entry(
        "a process is running and makes no progress",
        "two of these vantage points are silent for 3 s each (10 s for a main loop that uses CPU): the healer's probe "
        "and the platform's probe (of its health server: no answer, or a main loop without progress), its callers "
        "(two unanswered calls or more), and for bet-service its heartbeat in Postgres; a fresh heartbeat, or a reply "
        "to a caller within 1.5 s, contradicts; callers and heartbeat without a probe count only while heartbeats of "
        "another bet-service arrive, and not while Postgres takes no writes; that its node is lost (node-lost) is a "
        "second vantage point too",
        "bet-service: marked dead, so that others take its shards; then killed by boot id, the platform restarts it",
        voids=_SILENCE,
    ),
    Kind.OVERLOADED: Entry(
        "a process makes progress, but slowly: it has more work than it can do",
        "its health server reports a main loop that is 1 s or more late for 5 s, or blocked while it uses CPU",
        "nothing by the healer: the process refuses work by itself, and is not killed while it makes progress",
        severity=Severity.WARN,
        voids=(Void.HEALER, Void.STARTING),
    ),
    Kind.SHARED_CAUSE: Entry(
        "many processes are silent at once: the machine, the network or the healer is the likelier cause",
        "over a third of a service (at least 2), or of all processes (at least 3), silent or suspected at once, not "
        "counting those on nodes of which everything is silent while others are well (node-lost)",
        "nothing, except after exits that were seen",
        severity=Severity.WARN,
        voids=(Void.HEALER, Void.STARTING),
    ),
    Kind.NODE_LOST: Entry(
        "a node cannot be reached: everything of the platform on it is silent",
        "all processes that the healer asks there (at least 2) are silent to it for 3 s while something answers on at "
        "least as many other nodes; and for 3 s no bet-service there has sent a heartbeat while those of others "
        "arrive, or callers elsewhere have had no answer from there; a heartbeat from there, a reply to a caller "
        "within 1.5 s or a Redis there that answers contradicts",
        "its bet-services are marked dead at once, all of them: others take their shards; what else ran there is "
        "moved to other nodes, one at a time for each service (deleted where the platform cannot move it); the node "
        "itself is not touched",
        severity=Severity.WARN,
        voids=_SEEN,
    ),
    Kind.BAD_NODE: Entry(
        "several services fail on one node, and nowhere else",
        "within 5 minutes at least 2 services have each failed there at least twice (exits that nobody caused, hung), "
        "have failed on no other node, and have an instance on another node that is well; one failure of each is a "
        "restart of the node, and what ended with a lost node has not failed by itself",
        "where the platform can, their instances there are moved to other nodes, one at a time for each service; a "
        "bet-service that runs hands its shards over first; the node itself is not touched",
        severity=Severity.WARN,
        voids=_SEEN,
    ),
    Kind.CRASH_LOOP: Entry(
        "a process exits again and again",
        "within 5 minutes 5 exits of an instance are seen, or of the pods of one version, and these are more than the "
        "service has pods",
        "where the platform can, each once an hour (a roll-back: for each version) and given a minute or two exits to "
        "help: moved to another node, rolled back to the version that worked last (first, where several instances of "
        "its workload loop, or pods of another template of it run); then a person is alerted, and the platform "
        "continues to restart it with growing pauses; nothing is done about a version that no longer runs",
        severity=Severity.PAGE,
    ),
    Kind.HEALING_EXHAUSTED: Entry(
        "healing actions did not help, or may not be repeated",
        "3 kills or moves of a process were tried without its being seen healthy, or its service had the "
        "10 kills within 5 minutes that policy allows a service (of instances killed less than a minute before)",
        "a person is alerted; shards of dead and hung owners are still taken over; for the only instance left of a "
        "service no budget applies: after 3 kills without success it is killed once a minute",
        severity=Severity.PAGE,
    ),
    Kind.SHARDS_MISPLACED: Entry(
        "shards have no live owner, or one instance has more than its share",
        "a fresh read of the directory, and the heartbeats of the possible owners",
        "placed with the fewest moves: shards without a live owner at once, others by hand-overs in small groups",
        voids=(Void.DATABASE,),
    ),
    Kind.HANDOVER_STUCK: Entry(
        "a shard should move to another bet-service, and does not",
        "the directory has not changed for 5 s, and the side that blocks it has released or taken no other shard",
        "released by force at its epoch if the owner keeps it, one at a time for each receiver (appends of that owner "
        "are refused from then on); placed on another instance if the receiver does not take it, which gets no shards "
        "for 30 s then, unless nobody else can own them",
        severity=Severity.WARN,
        voids=(*_SEEN, Void.DATABASE, Void.OVERLOAD),
    ),
    Kind.NOBODY_TO_OWN: Entry(
        "no bet-service can own shards: no bets are taken",
        "the directory has no bet-service with a fresh heartbeat that is not draining and has not exited",
        "a person is alerted; the shards are placed on a bet-service as soon as one starts",
        severity=Severity.PAGE,
        voids=(Void.HEALER, Void.DATABASE, Void.STARTING),
    ),
    Kind.LEDGER_BROKEN: Entry(
        "the books of a shard do not balance",
        "two checks in a row of its newest entries and their accounts, each in one snapshot: amounts, balances in "
        "replies, nothing below zero, no gap; over a third of the shards (at least 3) at once are a shared cause",
        "the shard is frozen, also while healing is paused; a person is alerted; no program ever repairs money",
        severity=Severity.PAGE,
    ),
    Kind.SHARD_STOPPED: Entry(
        "a shard is frozen or quarantined: its bettors cannot bet",
        "the directory says so, with the reason",
        "a person is alerted; no program ever repairs money (afterwards: betting unfreeze)",
        severity=Severity.PAGE,
    ),
    Kind.DATABASE_AWAY: Entry(
        "Postgres does not answer, is in recovery, takes no writes or has no free connections",
        "errors of the healer's own connection, which reads the directory, asks whether it may write, and writes the "
        "healer's heartbeat",
        "nothing: the healer reconnects; a Postgres in recovery is never restarted; what has to be written waits",
        severity=Severity.PAGE,
        voids=(Void.HEALER,),
    ),
    Kind.FEED_SILENT: Entry(
        "a producer of prices is silent",
        "odds-service has reported no new heartbeat of it for 20 s by the healer's clock, in one life of the producer "
        "and of odds-service, and odds-service made progress all the while: it was running, and silent neither to a "
        "probe nor to its callers for 3 s",
        "odds-service has suspended its markets; the producer's process is killed by boot id, and the snapshot after "
        "its restart reopens them",
        severity=Severity.WARN,
        voids=(*_SILENCE, Void.DATABASE),
    ),
    Kind.CONSUMER_STUCK: Entry(
        "a projector (read models) or another consumer of the journal makes no progress while the journal grows",
        "the same position for 10 s while it lags and the head moves; the process is the cause, not the shard, if no "
        "other shard of the same consumer in the same life has moved meanwhile; several processes at once are a "
        "shared cause",
        "the process is killed by boot id and continues from its position after its restart; if only some of its "
        "shards are stuck, a person is alerted, once for each process and consumer",
        severity=Severity.WARN,
        voids=(*_SILENCE, Void.DATABASE),
    ),
    Kind.GREY_FAILURE: Entry(
        "an instance answers, but much slower or worse than its peers",
        "every caller with at least 20 calls to it within 10 s measures 5 times the latency of the median of the "
        "others (a tenth of its calls over 50 ms), or 5 times the errors (over 20 %), for 10 s; at least 3 peers and "
        "one outlier: of two it cannot be told which one is the outlier",
        "one at a time: a bet-service hands its shards over and is then killed by boot id; others are killed while "
        "all of their peers are well",
        severity=Severity.WARN,
        voids=(*_SILENCE, Void.DATABASE),
    ),
    Kind.HOT_SHARD: Entry(
        "shards are slow wherever they are",
        "an outlier was retired within the last minute, and the instance that took its shards is an outlier now",
        "nothing more is retired: a person is alerted, with the shards",
        severity=Severity.WARN,
        voids=(*_SILENCE, Void.DATABASE),
    ),
    Kind.MEMORY_CLIMBING: Entry(
        "a process has far more memory than its work explains",
        "resident size over 512 MiB above what its open bets and accounts explain by its own count, for 30 s",
        "retired as for grey-failure, long before the machine has none left",
        severity=Severity.WARN,
        voids=(Void.HEALER, Void.UNSEEN, Void.STARTING),
    ),
    Kind.MEMORY_SHORT: Entry(
        "a process is large, and its open bets explain it",
        "resident size over 4 GiB for 30 s, explained but for less than 512 MiB",
        "where the platform can and policy allows, one more bet-service every 5 minutes, which takes shards; else a "
        "person is alerted: a restart would load the same bets; add bet-services",
        severity=Severity.PAGE,
        voids=(Void.HEALER, Void.UNSEEN, Void.STARTING),
    ),
    Kind.REDIS_PRIMARY_GONE: Entry(
        "the Redis primary has exited and lost its data: bets continue; sessions, live updates and rate limits wait",
        "its exit was seen, by boot id, or a later life of the node answers the healer",
        "the replica with the most data is promoted; the old primary comes back as its replica",
    ),
    Kind.REDIS_PRIMARY_HUNG: Entry(
        "the Redis primary is running and does not answer",
        "the healer's ping, and the platform's probe or a replica's link, have no answer for 3 s without a gap in the "
        "healer's observation; a replica that heard from it within 2 s contradicts, and so does a shared cause",
        "with three nodes or more its replicas are detached from it, so that it takes no writes, and 5 s waited; it is "
        "killed by boot id: if its exit is seen, that is sooner; then as for redis-primary-gone",
        voids=(*_SEEN, Void.UNSEEN),
    ),
    Kind.REDIS_REPLICA_AWAY: Entry(
        "a Redis replica has exited, is hung, or has no link to its primary: a failover now would lose data",
        "its exit was seen; or the healer's ping and the platform's probe are silent for 3 s; or it reports no link "
        "to its primary for 10 s (the link, or every full copy, fails again and again)",
        "a hung one is killed by boot id; the platform restarts it, and it copies the data of the primary",
        severity=Severity.WARN,
        voids=(Void.HEALER, Void.UNSEEN),
    ),
    Kind.REDIS_MEMORY_FULL: Entry(
        "Redis is nearly full: a full one refuses writes",
        "it reports that 90 % of its memory limit is used",
        "a person is alerted: no program deletes data, and all of it can be rebuilt from Postgres",
        severity=Severity.PAGE,
    ),
    Kind.REDIS_BLOCKED: Entry(
        "Redis needs an action that is not allowed or not possible now",
        "the reason: paused, budget, cool-down; no fence, no replica to promote, or no answer for 5 s",
        "nothing until the reason is gone: without a fence two primaries could take writes at once",
        severity=Severity.PAGE,
    ),
    Kind.DISK_FULL: Entry(
        "the disk is nearly full",
        "the free bytes of the file system with the data",
        "a person is alerted: no program deletes data",
        severity=Severity.PAGE,
    ),
    Kind.CLOCK_OFF: Entry(
        "this machine's clock and the database's differ by over 2 s",
        "both clocks, read within one round trip",
        "a person is alerted; a bet-service whose clock is off hands its shards over by itself",
        severity=Severity.WARN,
        voids=(Void.HEALER,),
    ),
    Kind.RECORD_NOT_WRITTEN: Entry(
        "the healer's record cannot be written to disk",
        "the error of the healer's own write",
        "the healer continues, and keeps its latest ticks in memory until they can be written",
        severity=Severity.WARN,
    ),
}
assert TABLE.keys() == set(Kind), "every diagnosis has its row"
