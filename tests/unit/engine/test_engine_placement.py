"""Which shard, which owner: stable, fair, and with as few moves as fairness allows."""

from __future__ import annotations

import uuid
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from betting.engine.ids import account_id, bet_id, is_uuid7, key_minute, key_time_ms
from betting.placement import Candidate, place, shard_of

NAMES = [f"bets-{n}" for n in range(8)]
names = st.lists(st.sampled_from(NAMES).map(Candidate), min_size=1, max_size=8)
# Full and skewed: a few hold nearly everything, some of them gone or unknown; and shards that are no longer there.
holders = st.lists(st.sampled_from([*NAMES, "gone"]), min_size=1, max_size=3)
owners = st.builds(
    lambda few, which, missing: {s: few[w % len(few)] for s, w in enumerate(which) if s not in missing},
    holders,
    st.lists(st.integers(0, 2), min_size=20, max_size=60),
    st.sets(st.integers(0, 60), max_size=4),
)
counts = st.integers(1, 48)


@given(counts, names, owners)
def test_total_and_fair(count: int, instances: list[Candidate], today: dict[int, str]) -> None:
    """Every shard has a living owner, and nobody more than the fair share or a whole shard less than another."""
    wanted = place(count, instances, today)
    assert set(wanted) == set(range(count))
    loads = [list(wanted.values()).count(each.name) for each in set(instances)]
    assert sum(loads) == count
    assert max(loads) <= -(-count // len(set(instances)))
    assert max(loads) - min(loads) <= 1


@given(counts, names, owners)
def test_minimal_moves(count: int, instances: list[Candidate], today: dict[int, str]) -> None:
    """As many shards stay as any fair placement could leave: the larger shares go where most is held."""
    wanted = place(count, instances, today)
    stay = sum(1 for shard in range(count) if today.get(shard) == wanted[shard])
    living = {each.name for each in instances}
    held = sorted((sum(1 for s in range(count) if today.get(s) == name) for name in living), reverse=True)
    base, extra = divmod(count, len(living))
    assert stay == sum(min(h, base + (rank < extra)) for rank, h in enumerate(held))


@given(counts, names, owners, st.randoms(use_true_random=False))
def test_deterministic(count: int, instances: list[Candidate], today: dict[int, str], chance: object) -> None:
    """Neither the order of the instances nor that of the owners matters, nor a name said twice."""
    shuffled = sorted(instances, key=lambda _: chance.random())  # type: ignore[attr-defined]
    turned = dict(sorted(today.items(), reverse=True))
    assert place(count, instances, today) == place(count, [*shuffled, shuffled[0]], turned)


@given(counts, names, owners)
def test_settled(count: int, instances: list[Candidate], today: dict[int, str]) -> None:
    """A placement carried out asks for no further move."""
    wanted = place(count, instances, today)
    assert place(count, instances, wanted) == wanted


def test_nobody_to_place_on() -> None:
    """Without instances nothing is placed."""
    assert place(4, [], {0: "gone"}) == {}


@given(st.binary(min_size=16, max_size=16), st.integers(1, 4_096))
def test_shard_of(user: bytes, count: int) -> None:
    """CRC-32 modulo the count: in range, and what Postgres computes."""
    assert shard_of(user, count) == crc32(user) % count < count


def test_shard_of_never_changes() -> None:
    """Accounts live where this function put them: these values are for ever."""
    users = [bytes(16), bytes(range(16)), b"\xff" * 16]
    assert [shard_of(user, 16) for user in users] == [5, 8, 10]
    assert [shard_of(user, 2_048) for user in users] == [853, 648, 1562]


uuids = st.binary(min_size=16, max_size=16)


@given(uuids, uuids)
def test_derived_ids_are_uuid8(user: bytes, key: bytes) -> None:
    """Accounts and bets have valid UUIDs of version 8 that follow from what they belong to."""
    account = account_id(user, b"GBP")
    bet = bet_id(account, key)
    for id_ in (account, bet):
        assert uuid.UUID(bytes=id_).version == 8
        assert uuid.UUID(bytes=id_).variant == uuid.RFC_4122
    assert account == account_id(user, b"GBP") != account_id(user, b"EUR")
    assert bet == bet_id(account, key) != bet_id(account_id(user, b"EUR"), key)


def test_derived_ids_never_change() -> None:
    """A repeat months later must derive the same bet id."""
    account = account_id(bytes(range(16)), b"GBP")
    assert account.hex() == "4a9ebd276ea88fb0a02d351b3fa018b6"
    assert bet_id(account, b"k" * 16).hex() == "a87c32c8d4f287068fd4b8e213a57405"


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_time_of_a_key(time_ms: int, rest: bytes) -> None:
    """A UUIDv7 carries its milliseconds; any other version or variant is none."""
    key = bytearray(time_ms.to_bytes(6) + rest)
    key[6], key[8] = 0x70 | key[6] & 0x0F, 0x80 | key[8] & 0x3F
    assert is_uuid7(bytes(key))
    assert uuid.UUID(bytes=bytes(key)).version == 7
    assert key_time_ms(bytes(key)) == time_ms
    assert key_minute(bytes(key)) == time_ms // 60_000
    assert not is_uuid7(bytes(key[:15]))
    key[6] ^= 0x10
    assert not is_uuid7(bytes(key))
