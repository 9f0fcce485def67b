"""Rows of the journal altered behind the platform's back: each must be caught by the check that is there for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

REFUSED = "kind = 11"
RESULT = "kind = 20 AND market = 31"
FLIP_FIRST_BYTE = "set_byte(body, 0, get_byte(body, 0) # 255)"


@dataclass(frozen=True)
class Canary:
    """Statements that spoil a clean database, and the checks that must fail: those and no others."""

    name: str
    fails: set[str]
    statements: tuple[str, ...]


CANARIES = [
    Canary(
        "an entry is missing in the middle",
        {"journal.sequences"},
        (
            f"DELETE FROM betting.requests USING betting.journal j WHERE j.request_key = "
            f"requests.request_key AND {REFUSED}",
            f"DELETE FROM betting.journal WHERE {REFUSED}",
        ),
    ),
    Canary(
        "a deposit is missing",
        {"journal.sequences", "accounts.repayment", "requests.real", "read_models.balances", "read_models.ledger"},
        ("DELETE FROM betting.journal WHERE kind = 2 AND receivable_minor > 0",),
    ),
    Canary(
        "time runs backwards", {"journal.times"}, (f"UPDATE betting.journal SET at_us = at_us - 100 WHERE {RESULT}",)
    ),
    Canary("an unknown kind", {"journal.kinds"}, (f"UPDATE betting.journal SET kind = 99 WHERE {REFUSED}",)),
    Canary("an unknown format", {"journal.kinds"}, (f"UPDATE betting.journal SET format = 2 WHERE {REFUSED}",)),
    Canary(
        "a body too long", {"journal.bodies"}, (f"UPDATE betting.journal SET body = body || '\\x00' WHERE {REFUSED}",)
    ),
    Canary("an empty body", {"journal.bodies"}, (f"UPDATE betting.journal SET body = '' WHERE {REFUSED}",)),
    Canary("an id too many", {"journal.bodies"}, (f"UPDATE betting.journal SET market = 5 WHERE {REFUSED}",)),
    Canary(
        "an entry of no shard",
        {"journal.shards"},
        (
            "INSERT INTO betting.journal SELECT 16, 1, kind, format, at_us, account, bet, request_key, "
            "market, 0, 0, 0, 0, 0, "
            f"body FROM betting.journal WHERE {RESULT}",
        ),
    ),
    Canary(
        "an entry out of balance",
        {"entries.balanced", "entries.columns", "accounts.zero_sum"},
        (
            "ALTER TABLE betting.journal DROP CONSTRAINT journal_balanced",
            "UPDATE betting.journal SET house_minor = house_minor + 1 WHERE kind = 21 AND market = 41",
        ),
    ),
    Canary(
        "money from the house instead of clearing",
        {"entries.columns"},
        ("UPDATE betting.journal SET house_minor = -1, clearing_minor = clearing_minor + 1 WHERE kind = 3",),
    ),
    Canary(
        "money without an owner",
        {"entries.columns", "accounts.zero_sum"},
        (f"UPDATE betting.journal SET cash_minor = 5, house_minor = -5 WHERE {RESULT}",),
    ),
    Canary(
        "another account inside",
        {"entries.accounts"},
        (f"UPDATE betting.journal SET body = {FLIP_FIRST_BYTE} WHERE {REFUSED}",),
    ),
    Canary(
        "a balance told wrong",
        {"accounts.balance_after"},
        ("UPDATE betting.journal SET body = set_byte(body, 31, get_byte(body, 31) # 1) WHERE kind = 3",),
    ),
    Canary(
        "an account opened twice",
        {"accounts.opened"},
        (
            "INSERT INTO betting.journal SELECT shard, (SELECT max(sequence) + 1 FROM betting.journal m "
            "WHERE m.shard = j.shard), "
            "kind, format, at_us + 1000000, account, bet, request_key, market, 0, 0, 0, 0, 0, body FROM "
            "betting.journal j "
            "WHERE kind = 1 AND shard = 5",
        ),
    ),
    Canary(
        "an account in another currency than its id says",
        {"accounts.identity"},
        (
            "UPDATE betting.journal SET body = substr(body, 1, 16) || 'EUR' WHERE kind = 1 AND shard = 5",
            "UPDATE betting.accounts SET currency = 'EUR' WHERE shard = 5",
        ),
    ),
    Canary("accounts in the wrong shard", {"accounts.shard"}, ("UPDATE betting.install SET shard_count = 17",)),
    Canary(
        "a bet under another key than its id says",
        {"bets.identity"},
        (
            "UPDATE betting.requests SET request_key = uuidv7() WHERE request_key = (SELECT request_key "
            "FROM betting.journal "
            "WHERE kind = 10 AND shard = 5)",
            "UPDATE betting.journal SET request_key = (SELECT request_key FROM betting.requests WHERE "
            "requests.shard = 5 "
            "AND requests.sequence = journal.sequence) WHERE kind = 10 AND shard = 5",
            "UPDATE betting.bets SET request_key = (SELECT request_key FROM betting.requests WHERE requests.shard = 5 "
            "AND requests.sequence = bets.placed_sequence) WHERE shard = 5",
        ),
    ),
    Canary(
        "a bet placed twice",
        {"bets.once", "bets.open_stakes"},
        (
            "INSERT INTO betting.requests SELECT uuidv7(), 5, max(sequence) + 1 FROM betting.journal WHERE shard = 5",
            "INSERT INTO betting.journal SELECT shard, (SELECT max(sequence) + 1 FROM betting.journal m "
            "WHERE m.shard = j.shard), "
            "kind, format, at_us + 1000000, account, bet, (SELECT request_key FROM betting.requests WHERE "
            "shard = 5 ORDER BY "
            "sequence DESC LIMIT 1), market, cash_minor, stakes_minor, 0, 0, 0, body FROM betting.journal j "
            "WHERE kind = 10 AND shard = 5",
        ),
    ),
    Canary(
        "a bet placed at another time than its entry",
        {"bets.time"},
        (
            "UPDATE betting.journal SET body = set_byte(body, 31, get_byte(body, 31) # 1) WHERE kind = 10 "
            "AND shard = 5",
            "UPDATE betting.bets SET record = set_byte(record, 31, get_byte(record, 31) # 1) WHERE shard = 5",
        ),
    ),
    Canary(
        "the legs of a reopened bet are swapped",
        {"settlements.bets"},
        (
            "UPDATE betting.journal SET body = substr(body, 1, 47) || substr(body, 74, 26) || substr(body, 48, 26) "
            "WHERE kind = 24",
        ),
    ),
    Canary(
        "a settlement on another account",
        {"settlements.bets", "accounts.stakes", "bets.open_stakes", "read_models.balances", "read_models.settlements"},
        (
            "UPDATE betting.journal SET account = (SELECT account FROM betting.journal WHERE kind = 3) WHERE kind = 21 "
            "AND market = 21 AND cash_minor = 0 AND stakes_minor = -10 AND sequence = (SELECT max(sequence) "
            "FROM betting.journal "
            "WHERE kind = 21 AND market = 21)",
        ),
    ),
    Canary(
        "a request key used twice",
        {"requests.once"},
        (
            "DELETE FROM betting.requests USING betting.journal j WHERE kind = 3 AND j.shard = requests.shard "
            "AND j.sequence = requests.sequence",
            f"UPDATE betting.journal SET request_key = (SELECT request_key FROM betting.journal WHERE "
            f"{REFUSED}) WHERE kind = 3",
        ),
    ),
    Canary(
        "a request key that cannot be looked up",
        {"requests.complete"},
        ("DELETE FROM betting.requests WHERE sequence = 2 AND shard = 3",),
    ),
    Canary(
        "a request key that leads elsewhere",
        {"requests.complete", "requests.real"},
        ("UPDATE betting.requests SET sequence = 4 WHERE sequence = 2 AND shard = 3",),
    ),
    Canary(
        "a request key of nobody",
        {"requests.real"},
        ("INSERT INTO betting.requests VALUES (uuidv7(), 3, 2)",),
    ),
    Canary(
        "the end of the journal is lost",
        {"read_models.watermark", "requests.real", "read_models.balances", "read_models.ledger", "read_models.bets"},
        (
            "DELETE FROM betting.journal WHERE shard = 3 AND sequence = (SELECT max(sequence) FROM "
            "betting.journal WHERE shard = 3)",
        ),
    ),
]

READ_MODEL_CANARIES = [
    Canary(
        "an account of another user",
        {"read_models.accounts"},
        ("UPDATE betting.accounts SET user_id = uuidv7() WHERE shard = 5",),
    ),
    Canary("a forged balance", {"read_models.balances"}, ("UPDATE betting.balances SET cash_minor = cash_minor + 1",)),
    Canary(
        "a balance that is missing",
        {"read_models.balances"},
        ("DELETE FROM betting.balances WHERE account = (SELECT account FROM betting.accounts WHERE shard = 5)",),
    ),
    Canary(
        "a balance of nobody", {"read_models.strays"}, ("INSERT INTO betting.balances VALUES (uuidv7(), 1, 0, 0, 1)",)
    ),
    Canary("a bet shown as open", {"read_models.bets"}, ("UPDATE betting.bets SET status = 1 WHERE shard = 5",)),
    Canary("a payout shown wrong", {"read_models.bets"}, ("UPDATE betting.bets SET payout_minor = payout_minor + 1",)),
    Canary(
        "a record with another price",
        {"read_models.bets"},
        ("UPDATE betting.bets SET record = set_byte(record, 54, get_byte(record, 54) # 1) WHERE shard = 5",),
    ),
    Canary("a bet that is missing", {"read_models.bets"}, ("DELETE FROM betting.bets WHERE shard = 5",)),
    Canary(
        "a settlement too many",
        {"read_models.settlements"},
        (
            "INSERT INTO betting.bet_settlements SELECT shard, 1, 21, bet, account, 1, 1, 11, 0, 0 FROM "
            "betting.bets WHERE shard = 5",
        ),
    ),
    Canary(
        "a settlement shown with another payout",
        {"read_models.settlements"},
        ("UPDATE betting.bet_settlements SET payout_minor = payout_minor + 1 WHERE shard = 5",),
    ),
    Canary("a leg that cannot be found", {"read_models.legs"}, ("DELETE FROM betting.bet_legs WHERE market = 51",)),
    Canary(
        "a leg that was never bet on", {"read_models.legs"}, ("INSERT INTO betting.bet_legs VALUES (99, 3, uuidv7())",)
    ),
    Canary("a movement that is missing", {"read_models.ledger"}, ("DELETE FROM betting.ledger WHERE kind = 3",)),
    Canary(
        "a movement shown wrong", {"read_models.ledger"}, ("UPDATE betting.ledger SET cash_minor = 7 WHERE kind = 3",)
    ),
    Canary(
        "totals that corrections would trust",
        {"read_models.markets"},
        ("UPDATE betting.market_settlements SET bets = bets + 1 WHERE market = 31",),
    ),
]


@pytest.mark.parametrize("canary", [*CANARIES, *READ_MODEL_CANARIES], ids=lambda canary: canary.name.replace(" ", "-"))
async def test_caught(audited: Any, season: Any, canary: Canary) -> None:
    """The audit fails in the right checks and in no other."""
    audited.write(season)
    for statement in canary.statements:
        audited.tamper(statement)
    failed = await audited.failed()
    assert set(failed) == canary.fails, {name: check.examples for name, check in failed.items()}
    assert all(check.examples and check.problems >= len(check.examples) for check in failed.values())


async def test_the_row_is_named(audited: Any, season: Any) -> None:
    """A problem says where it is, what should be there and what is."""
    audited.write(season)
    audited.tamper("UPDATE betting.balances SET cash_minor = 123456 WHERE account = %s", season.bob.id)
    (problem,) = (await audited.failed())["read_models.balances"].examples
    assert problem.where == f"shard 3, sequence {season.still_open.placed_sequence}, account {season.bob.id}"
    assert problem.expected == f"cash {season.bob.cash}, open stakes 300, receivable 0"
    assert problem.found == "cash 123456, open stakes 300, receivable 0"


async def test_values_beyond_computing(audited: Any, season: Any) -> None:
    """Amounts so forged that sums overflow fail the audit, they do not stop it."""
    audited.write(season)
    audited.tamper("ALTER TABLE betting.journal DROP CONSTRAINT journal_balanced")
    audited.tamper(
        "UPDATE betting.journal SET cash_minor = 9223372036854775807, house_minor = 9223372036854775807 WHERE kind = 3"
    )
    failed = await audited.failed()
    assert {"entries.balanced", "entries.columns", "accounts.zero_sum"} <= set(failed)


async def test_keys_older_than_what_is_kept(audited: Any, season: Any) -> None:
    """Once days of request keys have been dropped, older keys are not missed and younger ones are."""
    audited.write(season)
    audited.tamper("DELETE FROM betting.requests")
    audited.tamper(
        "CREATE TABLE betting.requests_day PARTITION OF betting.requests "
        f"FOR VALUES FROM ('{season.still_open.key}') TO ('ffffffff-ffff-ffff-ffff-ffffffffffff')"
    )
    failed = await audited.failed()
    assert set(failed) == {"requests.complete"}
    assert [problem.bet for problem in failed["requests.complete"].examples] == [season.still_open.id]
