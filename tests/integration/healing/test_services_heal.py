"""Everything else that hangs: stateless services, and the healer itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import in_process
import pytest
from healing_waits import until

from betting.drills.embedded_target import inject
from betting.journal import healing_switch
from betting.life import Life
from betting.v1 import odds_pb2
from betting_operator.healing.actions import Kill
from betting_operator.healing.diagnoses import Kind

pytestmark = pytest.mark.slow

CALLS = ("health-monitor", "odds-service")


async def test_a_frozen_service_is_killed_and_started_again(start_platform: Any) -> None:
    """Two vantage points: the healer's probe and the supervisor's."""
    async with start_platform("wallet-service", "bet-service", "user-service", "healer") as running:
        life = running.life("wallet-service")
        running.platform.supervisor.signal("wallet-service", signal.SIGSTOP)

        async def replaced() -> bool:
            return bool(running.life("wallet-service") != life)

        await until(replaced, "a new life")
        assert running.done(Kill) == [Kill(Life("wallet-service", "wallet-service", life))]
        assert any("process-hung wallet-service" in note for note in running.notes)


async def test_callers_say_whom_they_call_in_vain(start_platform: Any) -> None:
    """health-monitor calls odds-service every second: its word is among the evidence, and over with the next life."""
    async with start_platform("odds-service", "event-service", "health-monitor", "bet-service", "healer") as running:

        async def answered() -> bool:
            return any(each.answered_ms_ago is not None for each in words())

        def words() -> list[Any]:
            return [w for r in running.records()[-1:] for w in r.seen.reports if (w.caller, w.life.instance) == CALLS]

        await until(answered, "a good word")
        life = running.life("odds-service")
        # Paused, or it may be killed before the callers' word is heard: theirs is the slowest.
        await healing_switch.pause(running.database, "to hear the callers")
        running.platform.supervisor.signal("odds-service", signal.SIGSTOP)

        async def complained_of() -> bool:
            return any(w.life.boot_id == life and w.silent_ms > 1_000 for w in words())

        async def replaced_and_answering() -> bool:
            return bool(running.life("odds-service") != life) and any(
                w.life.boot_id != life and not w.unanswered for w in words()
            )

        await until(complained_of, "a caller's complaint")
        await healing_switch.resume(running.database)
        await until(replaced_and_answering, "a new life, and a good word on it")
        assert running.done(Kill) == [Kill(Life("odds-service", "odds-service", life))]


async def test_paused_healing_leaves_it_and_says_why(start_platform: Any) -> None:
    """Until somebody resumes it."""
    async with start_platform("wallet-service", "bet-service", "user-service", "healer") as running:
        await healing_switch.pause(running.database, "network work")
        life = running.life("wallet-service")
        running.platform.supervisor.signal("wallet-service", signal.SIGSTOP)

        async def said() -> bool:
            reasons = [each.reason for record in running.records() for each in record.plan.declined]
            return any("paused: network work" in reason for reason in reasons)

        await until(said, "a reason")
        assert running.life("wallet-service") == life

        async def told() -> bool:
            return "healer: mode: healing is paused: network work" in running.notes

        await until(told, "the screen says so")
        await healing_switch.resume(running.database)

        async def replaced() -> bool:
            return bool(running.life("wallet-service") != life)

        await until(replaced, "a new life")


async def test_a_frozen_healer_is_ended_and_its_successor_begins_a_new_term(start_platform: Any) -> None:
    """By the supervisor: nobody else heals the healer."""
    async with start_platform("bet-service", "healer") as running:
        life = running.life("healer")

        async def begun() -> bool:
            return await running.database.fetchval("SELECT term FROM betting.healer_beat") is not None

        await until(begun, "its term")
        term = await running.database.fetchval("SELECT term FROM betting.healer_beat")
        running.platform.supervisor.signal("healer", signal.SIGSTOP)

        async def replaced() -> bool:
            later = await running.database.fetchval("SELECT term FROM betting.healer_beat")
            return bool(running.life("healer") != life and later > term)

        await until(replaced, "a new healer")


async def test_a_silenced_feed_is_suspended_and_its_process_started_anew(start_platform: Any) -> None:
    """It lives and answers every probe; only the count of odds-service knows. The next life's snapshot reopens it."""
    services = ("odds-service", "event-service", "settlement-service", "bet-service", "season-replay", "healer")
    async with start_platform(*services) as running:
        life = running.life("season-replay")
        await inject(running.platform, "silence", "season-replay", 0)

        async def status() -> int:
            return int(await running.database.fetchval("SELECT status FROM odds.producers"))

        async def replaced() -> bool:
            return bool(running.life("season-replay") != life)

        async def reopened() -> bool:
            return await status() == odds_pb2.PRODUCER_STATUS_ALIVE

        await until(replaced, "a new life")
        assert running.done(Kill) == [Kill(Life("season-replay", "season-replay", life))]
        await until(reopened, "prices again")


async def test_a_frozen_postgres_is_waited_for(start_platform: Any) -> None:
    """Five seconds without it: nobody is killed or marked dead for beats that could not arrive."""
    async with start_platform("bet-service", "healer") as running:
        lives = {name: running.life(name) for name in ("bet-service-1", "bet-service-2", "postgres")}

        async def said() -> bool:
            return any(d.kind is Kind.DATABASE_AWAY for record in running.records() for d in record.diagnoses)

        async def well() -> bool:
            return any(not record.diagnoses for record in running.records()[-1:])

        await until(well, "a calm beginning")
        running.platform.supervisor.signal("postgres", signal.SIGSTOP)
        try:
            await until(said, "seen to be away")
        finally:
            running.platform.supervisor.signal("postgres", signal.SIGCONT)
        await until(well, "well again")
        assert {name: running.life(name) for name in lives} == lives
        assert not running.done(Kill)


def test_a_policy_that_cannot_work_is_refused_before_anything_is_done() -> None:
    """A budget of nothing with healing on: one line that names the variable, exit code 2."""
    wanted = {
        "BETTING_INSTANCE": "healer",
        "BETTING_INTERNAL_SECRET": in_process.SECRET,
        "BETTING_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none",
        "BETTING_GRPC_ADDRESS": in_process.free_address(),
        "BETTING_SUPERVISOR": "127.0.0.1:1",
        "BETTING_FLIGHT_FOLDER": "/nowhere",
        "BETTING_HEAL_BUDGET": "0",
    }
    command = (sys.executable, "-m", "betting_operator.healer")
    done = subprocess.run(command, env=os.environ | wanted, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "healer: BETTING_HEAL_BUDGET is wrong: it must be greater than or equal to 1, not '0'"
    )
