"""The healer's probe of every Redis node, and its commands to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from betting.life import Life
from betting.runtime import redis_link
from betting.runtime.redis_link import RedisLink, boot_id_of, node_url
from betting.runtime.settings import split_address
from betting_operator.healing.redis_signals import REDIS_WORKLOAD, RedisNode, RedisRole
from betting_operator.platforms.port import CannotDo, Inventory

TIMEOUT_S = 0.5
# A node that did not answer the last time keeps a round waiting no longer: its answer may come until the next round.
SILENT_TIMEOUT_S = 0.1
# Where a detached node looks for its primary: nobody listens there.
NOWHERE = ("127.0.0.1", 1)


@dataclass
class _Asked:
    """One node: what it said last and when; heard_s: when it had last heard from the primary it follows.

    link: None while it has no address; busy: held while it is used. asking: the last question, which may be under way;
    answered_round: in which round the question was put that was answered last. min_replicas: see RedisLink.
    """

    link: RedisLink | None
    address: str
    host: str
    port: int
    answered_s: float
    info: dict[str, str] | None = None
    min_replicas: int = 0
    answers: bool = False
    heard_s: float | None = None
    answered_round: int = 0
    asking: asyncio.Task[None] | None = None
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


class RedisWatch:
    """Every Redis node of the platform, also those that are down. url: of any of them, for the credentials."""

    def __init__(self, instances: Inventory, url: str) -> None:
        self._instances = instances
        self._url = url
        self._asked: dict[str, _Asked] = {}
        self._round = 0

    async def ask(self) -> tuple[RedisNode, ...]:
        """Probes all of them, within about half a second; a node that has not answered by then is silent."""
        await self._follow_inventory()
        self._round += 1
        questions = [(self._question(asked, asked.link), asked.answers) for asked in self._asked.values() if asked.link]
        for answered, timeout_s in ((True, None), (False, SILENT_TIMEOUT_S)):
            tasks = [task for task, answered_before in questions if answered_before is answered]
            if tasks:
                done, _late = await asyncio.wait(tasks, timeout=timeout_s)
                for task in done:
                    task.result()
        now_s = time.monotonic()
        return tuple(self._node(name, asked, now_s) for name, asked in self._asked.items())

    async def promote(self, life: Life) -> None:
        """Makes this life of a node primary. Raises OtherLife, redis_link.ERRORS, CannotDo."""
        asked, link = self._reached(life.instance)
        async with asked.busy:
            await link.promote(life.boot_id)

    async def follow(self, life: Life, primary: str) -> None:
        """Makes this life of a node a replica, of nobody if `primary` is "".

        Raises OtherLife, redis_link.ERRORS, CannotDo.
        """
        to = self._asked.get(primary)
        if primary and (to is None or not to.host):
            raise CannotDo(f"there is no Redis node {primary} with an address to follow")
        asked, link = self._reached(life.instance)
        async with asked.busy:
            await link.follow(life.boot_id, *((to.host, to.port) if to else NOWHERE))

    async def close(self) -> None:
        """Closes the connections."""
        for asked in self._asked.values():
            await _close(asked)

    async def _follow_inventory(self) -> None:
        """Follows changes of nodes and addresses; while the platform does not answer, the known nodes stay.

        A node without an address (its next pod waits for a machine) is asked nowhere and stays silent: at the address
        it had, another may answer by now.
        """
        instances = self._instances()
        if instances is None:
            return
        nodes = {each.instance: each.address for each in instances if each.workload == REDIS_WORKLOAD}
        for name in self._asked.keys() - nodes.keys():
            await _close(self._asked.pop(name))
        for name, address in nodes.items():
            before = self._asked.get(name)
            if before is None or before.address != address:
                self._asked[name] = self._opened(address, before)
            if before is not None and before.address != address:
                await _close(before)

    def _opened(self, address: str, before: _Asked | None) -> _Asked:
        """before: the same node at another address. Its silence goes on until it answers."""
        silent_since_s = time.monotonic() if before is None else before.answered_s
        said = (None, 0) if before is None else (before.info, before.min_replicas)
        if not address:
            return _Asked(None, "", "", 0, silent_since_s, *said)
        link = RedisLink(node_url(self._url, address), timeout_s=TIMEOUT_S)
        return _Asked(link, address, *split_address(address), silent_since_s, *said)

    def _reached(self, name: str) -> tuple[_Asked, RedisLink]:
        asked = self._asked.get(name)
        if asked is None or asked.link is None:
            raise CannotDo(f"there is no Redis node {name}" + ("" if asked is None else " with an address"))
        return asked, asked.link

    def _question(self, asked: _Asked, link: RedisLink) -> asyncio.Task[None]:
        """Of this round, or one that is still under way: each ends by itself."""
        if asked.asking is None or asked.asking.done():
            asked.asking = asyncio.create_task(self._ask(asked, link, self._round))
        return asked.asking

    async def _ask(self, asked: _Asked, link: RedisLink, begun_round: int) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S), asked.busy:
                info, min_replicas = await link.info(), await link.min_replicas()
        except redis_link.ERRORS:
            asked.answers = False
            return
        now_s = time.monotonic()
        asked.heard_s = _heard_s(asked, info, now_s)
        asked.answered_s, asked.answers, asked.info = now_s, True, info
        asked.min_replicas, asked.answered_round = min_replicas, begun_round

    def _node(self, name: str, asked: _Asked, now_s: float) -> RedisNode:
        info = asked.info
        silent_ms = 0 if asked.answers else max(1, int((now_s - asked.answered_s) * 1_000))
        if info is None:
            return RedisNode(name, silent_ms=silent_ms, has_address=asked.link is not None)
        is_primary = info.get("role") == "master"
        return RedisNode(
            name=name,
            boot_id=boot_id_of(info),
            silent_ms=silent_ms,
            fresh=asked.answers and asked.answered_round == self._round,
            role=RedisRole.PRIMARY if is_primary else RedisRole.REPLICA,
            follows="" if is_primary else self._named(info),
            heard_ms=None if asked.heard_s is None else int((now_s - asked.heard_s) * 1_000),
            history=info.get("master_replid", ""),
            offset=_number(info, "master_repl_offset" if is_primary else "slave_repl_offset"),
            keys=_keys(info),
            used_bytes=_number(info, "used_memory"),
            max_bytes=_number(info, "maxmemory"),
            min_replicas=asked.min_replicas,
            has_address=asked.link is not None,
        )

    def _named(self, info: Mapping[str, str]) -> str:
        host, port = address = info.get("master_host", ""), _number(info, "master_port")
        if address == NOWHERE:
            return ""
        named = (name for name, each in self._asked.items() if (each.host, each.port) == address)
        return next(named, f"{host}:{port}")


async def _close(asked: _Asked) -> None:
    try:
        if asked.asking is not None:
            asked.asking.cancel()
            await asyncio.wait((asked.asking,))
    finally:  # also when the healer is being stopped
        if asked.link is not None:
            await asked.link.close()


def _heard_s(asked: _Asked, info: Mapping[str, str], now_s: float) -> float | None:
    """While its link is up a replica says when it heard; once that is down it only says for how long."""
    if info.get("role") == "master":
        return None
    if info.get("master_link_status") == "up":
        return now_s - max(0, _number(info, "master_last_io_seconds_ago"))
    same = asked.info is not None and all(
        asked.info.get(key) == info.get(key) for key in ("run_id", "master_host", "master_port")
    )
    if same and asked.heard_s is not None:
        return asked.heard_s
    down_s = _number(info, "master_link_down_since_seconds", -1)
    return None if down_s < 0 else now_s - down_s


def _keys(info: Mapping[str, str]) -> int:
    """db0 says "keys=3,expires=0,…", and nothing while it is empty."""
    counts = dict(pair.partition("=")[::2] for pair in info.get("db0", "").split(","))
    return _number(counts, "keys")


def _number(info: Mapping[str, str], name: str, otherwise: int = 0) -> int:
    try:
        return int(info.get(name, otherwise))
    except ValueError:
        return otherwise
