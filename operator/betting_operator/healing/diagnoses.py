"""Everything a healer can conclude, and the evidence each conclusion needs; docs/runbooks is made from this table."""

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
    """Time that proves nothing: while it lasts a diagnosis cannot be told, afterwards its full time starts again.

    For the diagnoses that list it in the table; `evidence.counts_from` and `evidence.in_force` apply it.
    """

    HEALER = "the healer was paused or late itself, or its term has just begun"
    DATABASE = "Postgres could not be read and written"
    EVERYBODY = "many were silent at once"
    UNSEEN = "who tells of it was not heard"
    OVERLOAD = "the process was overloaded but made progress"
    STARTING = "the process was starting"


class Kind(StrEnum):
    """The names of the runbooks."""

    OWNER_DIED = "owner-died"
    PROCESS_DIED = "process-died"
    PROCESS_HUNG = "process-hung"
    OVERLOADED = "overloaded"
    SHARED_CAUSE = "shared-cause"
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
    """One conclusion. target: an instance, owner, shard or part, for a person, as
    evidence is: what it rests on. life: of whom it is concluded, None where it is not one life."""

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
    """One row of the table: what is needed to confirm it, what is done then, who is alerted, what time does not count.

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
        "its exit was seen by who waits for it (supervisor, kubelet), by boot id",
        "its life is marked dead, others take its shards at once",
    ),
    Kind.PROCESS_DIED: Entry(
        "any other process has ended",
        "its exit was seen by who waits for it, by boot id",
        "nothing by the healer: the platform underneath starts it again, with a growing pause",
    ),
    Kind.PROCESS_HUNG: Entry(
        "a process lives and gets nowhere",
        "two vantage points of the healer's probe, the platform's probe (both ask beside its work: no answer, or a "
        "main loop without progress), its callers (two calls or more without an answer) and (bet-service) its beat in "
        "Postgres, each silent for 3 s, a main loop that burns processor time for 10 s; a fresh beat, or an answer to "
        "a caller within 1.5 s, contradicts; callers and beat without a probe count only while another bet-service's "
        "beats arrive; beats and callers not while Postgres cannot be written",
        "bet-service: marked dead, so that others take its shards; then killed by boot id, the platform restarts it",
        voids=_SILENCE,
    ),
    Kind.OVERLOADED: Entry(
        "a process gets on, but slowly: it has more to do than it can",
        "by its own word, given beside its work: its main loop has run late by 1 s or more for 5 s, or stands and "
        "burns processor time",
        "nothing by the healer: it turns work away by itself; it is not killed while it makes progress",
        severity=Severity.WARN,
        voids=(Void.HEALER, Void.STARTING),
    ),
    Kind.SHARED_CAUSE: Entry(
        "many fall silent together: the machine, the network or the healer is the likelier cause",
        "over a third of a service (at least 2), or of all processes (at least 3), silent or suspected at once",
        "nothing: exits that were seen are acted on all the same",
        severity=Severity.WARN,
        voids=(Void.HEALER, Void.STARTING),
    ),
    Kind.CRASH_LOOP: Entry(
        "a process ends again and again",
        "5 exits seen within 5 minutes",
        "where the platform can, each once an hour and given a minute or two exits to help: moved to another node, "
        "rolled back to the version that worked last (first, where several instances of its workload loop); then a "
        "person is called, and the platform goes on trying with a growing pause",
        severity=Severity.PAGE,
    ),
    Kind.HEALING_EXHAUSTED: Entry(
        "what heals was tried and did not help, or may not be tried any more",
        "a process that should be killed has been killed 3 times without being seen healthy, or its service had the 10 "
        "kills within 5 minutes that policy allows a service (of instances killed less than a minute before)",
        "a person is called; shards of the dead and hung are still served; where it is the only instance of its "
        "service that is left, no budget holds, and after 3 kills in vain it is killed once a minute",
        severity=Severity.PAGE,
    ),
    Kind.SHARDS_MISPLACED: Entry(
        "shards have no live owner, or one instance has more than its share",
        "the directory, read just now, and beats of those who could own them",
        "placed by fewest moves: all that have nobody at once, hand-overs one at a time for each receiver",
        voids=(Void.DATABASE,),
    ),
    Kind.HANDOVER_STUCK: Entry(
        "a shard is meant for another bet-service and does not get there",
        "the directory has shown the same for 5 s, and who is waited for has given or taken no other shard meanwhile",
        "taken from the owner that keeps it, at its epoch (it may go on believing that it owns it: its appends are "
        "refused); placed on another where it is the receiver that does not take it",
        severity=Severity.WARN,
        voids=(*_SEEN, Void.DATABASE, Void.OVERLOAD),
    ),
    Kind.NOBODY_TO_OWN: Entry(
        "no bet-service can own shards: no bets are taken",
        "the directory shows no owner that beats, is not draining and was not seen to end",
        "a person is called; bet-services that start are given the shards at once",
        severity=Severity.PAGE,
        voids=(Void.HEALER, Void.DATABASE, Void.STARTING),
    ),
    Kind.LEDGER_BROKEN: Entry(
        "the books of a shard do not balance",
        "two looks in a row at its newest entries and the accounts they touch, each in one snapshot: amounts, balances "
        "told, nothing below zero, no gap; over a third of the shards (at least 3) at once are a shared cause",
        "the shard is frozen, also while healing is paused; a person is called; money is never repaired by a program",
        severity=Severity.PAGE,
    ),
    Kind.SHARD_STOPPED: Entry(
        "a shard is frozen or quarantined: its bettors cannot bet",
        "the directory says so, with the reason",
        "a person is called; money is never repaired by a program (then: betting unfreeze)",
        severity=Severity.PAGE,
    ),
    Kind.DATABASE_AWAY: Entry(
        "Postgres does not answer, recovers, takes no writes or is out of connections",
        "SQLSTATE or socket of the healer's own connection: it reads the directory, asks whether it may write, and "
        "writes its beat",
        "nothing: it is waited for and connected to again; one that recovers is never restarted; what has to be "
        "written waits",
        severity=Severity.PAGE,
        voids=(Void.HEALER,),
    ),
    Kind.FEED_SILENT: Entry(
        "a producer of prices has gone silent",
        "odds-service has reported no new sign of life for 20 s of the healer's own clock, in one life of the producer "
        "and of odds-service",
        "odds-service has suspended its markets; the producer's process is killed by boot id, the snapshot of its next "
        "life reopens them",
        severity=Severity.WARN,
        voids=(*_SILENCE, Void.DATABASE),
    ),
    Kind.CONSUMER_STUCK: Entry(
        "a projector (read models) or another consumer of the journal makes no progress while the journal grows",
        "the same position for 10 s with more to take in, and the head moving; it is the process, not the shard, "
        "if nothing else that the same life follows under that name has moved meanwhile; several processes at once "
        "are a shared cause",
        "the process that holds it is killed by boot id, its next life goes on from its position; where only one shard "
        "stands, a person is alerted",
        severity=Severity.WARN,
        voids=(*_SILENCE, Void.DATABASE),
    ),
    Kind.GREY_FAILURE: Entry(
        "an instance answers, but much slower or worse than its peers",
        "every caller with at least 20 calls to it within 10 s finds it 5 times as slow as the median of the others (a "
        "tenth of its calls over 50 ms), or 5 times as failing (over 20 %), for 10 s; at least 3 peers and one "
        "outlier: of two nobody can tell which one is the outlier",
        "one at a time: bet-service hands its shards on and is killed by boot id when it has none left; others are "
        "killed while all of their peers are well",
        severity=Severity.WARN,
        voids=(*_SILENCE, Void.DATABASE),
    ),
    Kind.HOT_SHARD: Entry(
        "shards are slow wherever they are",
        "the instance that was an outlier has been retired within the last minute, and who took its shards is one now",
        "nothing more is retired: a person is alerted which shards",
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
        "the Redis primary has ended, and all it held with it: bets go on, sessions, live pushes and rate limits wait",
        "its exit was seen, by boot id, or a later life of it answers the healer",
        "the replica with the most data is made primary; the old one comes back as its replica",
    ),
    Kind.REDIS_PRIMARY_HUNG: Entry(
        "the Redis primary is running and answers nobody",
        "the healer's ping and one of the platform's probe and the replica's word, each silent for 3 s without a gap "
        "in what the healer could see; a replica that heard from it within 2 s contradicts, and so do many that are "
        "silent at once",
        "it is killed by boot id, so that its end is seen; where nobody can kill it, its replicas are taken from it; "
        "then as redis-primary-gone",
        voids=(*_SEEN, Void.UNSEEN),
    ),
    Kind.REDIS_REPLICA_AWAY: Entry(
        "a Redis replica has ended, hangs, or does not hear its primary: a failover now would lose what it has not got",
        "its exit was seen; or the healer's ping and the platform's probe are silent for 3 s; or it says itself that "
        "it has not heard from its primary for 10 s (its link, or every full copy, fails again and again)",
        "one that hangs is killed by boot id; the platform starts it again, it fills itself from the primary",
        severity=Severity.WARN,
        voids=(Void.HEALER, Void.UNSEEN),
    ),
    Kind.REDIS_MEMORY_FULL: Entry(
        "Redis is nearly full: a full one refuses writes",
        "90 % of its memory is used, by its own word",
        "a person is called: nothing is deleted by a program, and all of it can be made again from Postgres",
        severity=Severity.PAGE,
    ),
    Kind.REDIS_BLOCKED: Entry(
        "Redis needs healing that may not, or cannot, be done now",
        "the reason: paused, budget, cool-down; no fence, nobody to promote or no answer for 5 s",
        "nothing until the reason is gone: without a fence two primaries could take writes at once",
        severity=Severity.PAGE,
    ),
    Kind.DISK_FULL: Entry(
        "the disk is nearly full",
        "free bytes where the data is",
        "a person is called: nothing is deleted by a program",
        severity=Severity.PAGE,
    ),
    Kind.CLOCK_OFF: Entry(
        "this machine's clock and the database's differ by over 2 s",
        "both, asked within one round trip",
        "a person is alerted; bet-services with a clock that is off hand their shards on themselves",
        severity=Severity.WARN,
        voids=(Void.HEALER,),
    ),
    Kind.RECORD_NOT_WRITTEN: Entry(
        "the healer's record cannot be written to disk",
        "the operating system's answer to the healer's own write",
        "the healer goes on as before and keeps its latest ticks in memory; they are written once there is room",
        severity=Severity.WARN,
    ),
}
assert TABLE.keys() == set(Kind), "every diagnosis has its row"
