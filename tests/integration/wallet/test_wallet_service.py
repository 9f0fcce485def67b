"""wallet-service with real bet-service instances as owners."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import grpc
import in_process
import pytest

from betting.bets.main import compose as compose_bets
from betting.bets.settings import BetSettings
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.runtime.ids import new_uuid7
from betting.v1 import common_pb2, wallet_pb2, wallet_pb2_grpc
from betting.wallet.main import compose
from betting.wallet.settings import WalletSettings

SHARDS = 4
WAIT_S = 15
POLL_S = 0.05
INSUFFICIENT = common_pb2.REFUSAL_CODE_INSUFFICIENT_FUNDS


class Wallet:
    """One user's view of wallet-service; the principal is what the gateway would sign."""

    def __init__(self, target: Target, user_id: bytes | None = None) -> None:
        self._target = target
        self._stub = target.stub(wallet_pb2_grpc.WalletServiceStub)
        self._principal = in_process.user_token(user_id or new_uuid7().bytes)

    def somebody_else(self) -> Wallet:
        """Another user of the same service."""
        return Wallet(self._target)

    def of(self, user_id: bytes) -> Wallet:
        """This user of the same service."""
        return Wallet(self._target, user_id)

    async def balance(self, currency: str = "GBP", timeout_s: float = WAIT_S) -> wallet_pb2.Balance:
        """GetBalance."""
        request = wallet_pb2.GetBalanceRequest(currency=currency)
        return (await self._call(self._stub.GetBalance, request, timeout_s)).balance  # type: ignore[no-any-return]

    async def deposit(
        self, amount_minor: int, key: str = "", currency: str = "GBP", timeout_s: float = WAIT_S
    ) -> wallet_pb2.DepositResponse:
        """Deposit, with a new key unless one is given."""
        request = wallet_pb2.DepositRequest(
            request_key=key or str(new_uuid7()), currency=currency, amount_minor=amount_minor
        )
        return await self._call(self._stub.Deposit, request, timeout_s)  # type: ignore[no-any-return]

    async def withdraw(self, amount_minor: int, key: str = "", currency: str = "GBP") -> wallet_pb2.WithdrawResponse:
        """Withdraw, with a new key unless one is given."""
        request = wallet_pb2.WithdrawRequest(
            request_key=key or str(new_uuid7()), currency=currency, amount_minor=amount_minor
        )
        return await self._call(self._stub.Withdraw, request)  # type: ignore[no-any-return]

    async def transactions(
        self, page_size: int = 0, page_token: str = "", currency: str = "GBP"
    ) -> wallet_pb2.ListTransactionsResponse:
        """ListTransactions."""
        request = wallet_pb2.ListTransactionsRequest(currency=currency, page_size=page_size, page_token=page_token)
        return await self._call(self._stub.ListTransactions, request)  # type: ignore[no-any-return]

    async def until_listed(self, count: int) -> list[wallet_pb2.Transaction]:
        """Waits until the projector has taken in `count` movements."""
        async with asyncio.timeout(WAIT_S):
            while True:
                page = await self.transactions(500)
                if len(page.transactions) >= count:
                    return list(page.transactions)
                await asyncio.sleep(POLL_S)

    async def _call(self, method: Any, request: Any, timeout_s: float = WAIT_S) -> Any:
        return await self._target.call(
            method, request, idempotent=False, principal=self._principal, timeout_s=timeout_s
        )


BetService = Callable[[str], AbstractAsyncContextManager[str]]


@pytest.fixture
def bet_service(database: Any, valkey: Any, unused_tcp_port_factory: Callable[[], int]) -> BetService:
    """Starts a bet-service instance: it claims free shards at once."""

    @asynccontextmanager
    async def started(instance: str) -> AsyncIterator[str]:
        settings = in_process.settings(
            BetSettings,
            instance=instance,
            grpc_address=f"127.0.0.1:{unused_tcp_port_factory()}",
            postgres_dsn=database.dsn,
            redis_url=valkey.url,
            shard_count=SHARDS,
        )
        in_process.install(settings.postgres_dsn, settings.shard_count)
        async with in_process.running(compose_bets, settings, service="bet-service") as address:
            yield address

    return started


@asynccontextmanager
async def served(database: Any, **overrides: Any) -> AsyncIterator[Wallet]:
    """A wallet-service with play money; owners have to be started beside it."""
    told = {"instance": "wallet-service", "postgres_dsn": database.dsn, "shard_count": SHARDS, "sandbox_money": True}
    async with (
        in_process.running(
            compose, in_process.settings(WalletSettings, **(told | overrides)), service="wallet-service"
        ) as address,
        in_process.calling(address, in_flight_max=100, queued_max=1000) as target,
    ):
        yield Wallet(target)


@pytest.fixture
async def wallet(database: Any) -> AsyncIterator[Wallet]:
    """A wallet-service with play money."""
    async with served(database) as made:
        yield made


async def test_no_money_is_made_where_money_is_not_play_money(database: Any, bet_service: BetService) -> None:
    """By default every deposit is refused and says which setting it is; nothing is opened, nothing is written."""
    async with bet_service("bet-service-1"), served(database, sandbox_money=False) as wallet:
        with pytest.raises(ServiceError) as refused:
            await wallet.deposit(1_000)
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SANDBOX_MONEY_OFF")
        assert "BETTING_SANDBOX_MONEY=true" in refused.value.message
        with pytest.raises(ServiceError) as missing:
            await wallet.balance()
        assert missing.value.reason == "ACCOUNT_NOT_FOUND"
        assert not (await wallet.transactions()).transactions
    assert not in_process.settings(WalletSettings).sandbox_money


async def test_no_money_leaves_where_money_is_not_play_money(database: Any, bet_service: BetService) -> None:
    """Balances of a time of play money are not paid out, and nobody's money leaves an account to reach nobody."""
    user_id = new_uuid7().bytes
    async with bet_service("bet-service-1"):
        async with served(database) as playing:
            await playing.of(user_id).deposit(1_000)
        async with served(database, sandbox_money=False) as service:
            wallet = service.of(user_id)
            with pytest.raises(ServiceError) as refused:
                await wallet.withdraw(400)
            assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
            assert refused.value.reason == "SANDBOX_MONEY_OFF"
            assert "BETTING_SANDBOX_MONEY=true" in refused.value.message
            assert (await wallet.balance()).cash_minor == 1_000


async def test_a_currency_that_is_not_on_the_list_comes_through_no_door(database: Any, bet_service: BetService) -> None:
    """Deposit, withdrawal, balance and movements: refused with the list; those on it work."""
    async with bet_service("bet-service-1"), served(database, currencies="JPY,GBP") as wallet:
        assert (await wallet.deposit(1_000, currency="JPY")).balance.cash_minor == 1_000
        for call in (
            wallet.deposit(1, currency="EUR"),
            wallet.balance("EUR"),
            wallet.withdraw(1, currency="EUR"),
            wallet.transactions(currency="EUR"),
        ):
            with pytest.raises(ServiceError, match="give one of GBP, JPY") as refused:
                await call
            assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CURRENCY")


async def test_money_goes_in_and_out(wallet: Wallet, bet_service: BetService) -> None:
    """The first deposit opens the account; every answer carries the balance right after."""
    async with bet_service("bet-service-1"):
        assert (await wallet.deposit(1_000)).balance == wallet_pb2.Balance(currency="GBP", cash_minor=1_000)
        assert (await wallet.withdraw(300)).balance.cash_minor == 700
        assert (await wallet.balance()).cash_minor == 700


async def test_a_repeated_deposit_pays_in_once(wallet: Wallet, bet_service: BetService) -> None:
    """The same key gives the first answer, marked; with another amount it is refused and says what differs."""
    key = str(new_uuid7())
    async with bet_service("bet-service-1"):
        first = await wallet.deposit(1_000, key)
        again = await wallet.deposit(1_000, key)
        other = await wallet.deposit(2_000, key)
        assert (first.repeated, again.repeated) == (False, True)
        assert again.balance == first.balance
        assert other.refusal.code == common_pb2.REFUSAL_CODE_KEY_REUSED
        assert "amount" in other.refusal.message
        assert (await wallet.balance()).cash_minor == 1_000


async def test_nobody_withdraws_more_than_there_is(wallet: Wallet, bet_service: BetService) -> None:
    """A refusal, and of twenty withdrawals at one moment exactly those that are covered."""
    async with bet_service("bet-service-1"):
        await wallet.deposit(1_000)
        assert (await wallet.withdraw(1_001)).refusal.code == INSUFFICIENT
        answers = await asyncio.gather(*(wallet.withdraw(150) for _ in range(20)))
        assert sum(answer.HasField("balance") for answer in answers) == 6
        assert {answer.refusal.code for answer in answers if answer.HasField("refusal")} == {INSUFFICIENT}
        assert (await wallet.balance()).cash_minor == 100


async def test_an_account_is_its_owners_alone(wallet: Wallet, bet_service: BetService) -> None:
    """Another user, and another currency, see nothing of it."""
    async with bet_service("bet-service-1"):
        await wallet.deposit(1_000)
        await wallet.until_listed(1)
        stranger = wallet.somebody_else()
        for call in (stranger.balance(), wallet.balance("EUR"), stranger.withdraw(1)):
            with pytest.raises(ServiceError) as refused:
                await call
            assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND")
        assert not (await stranger.transactions()).transactions
        assert not (await wallet.transactions(currency="EUR")).transactions


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda wallet: wallet.deposit(0), "AMOUNT_NOT_POSITIVE"),
        (lambda wallet: wallet.withdraw(-1), "AMOUNT_NOT_POSITIVE"),
        (lambda wallet: wallet.deposit(1, str(uuid.uuid4())), "REQUEST_KEY_NOT_UUID7"),
        (lambda wallet: wallet.balance("gbp"), "CURRENCY"),
        (lambda wallet: wallet.transactions(currency=""), "CURRENCY"),
        (lambda wallet: wallet.transactions(501), "PAGE_SIZE_OUT_OF_RANGE"),
        (lambda wallet: wallet.transactions(page_token="nonsense"), "PAGE_TOKEN_INVALID"),
    ],
)
async def test_bad_input_needs_no_owner_to_be_refused(wallet: Wallet, call: Any, reason: str) -> None:
    """INVALID_ARGUMENT at once, with a reason, though no bet-service runs."""
    with pytest.raises(ServiceError) as refused:
        await call(wallet)
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_calls_without_a_user_are_refused(wallet: Wallet) -> None:
    """Nobody at all, and a forged principal."""
    for principal, reason in ((None, "PRINCIPAL_MISSING"), (in_process.user_token(bytes(16), secret="00" * 32), "")):
        with pytest.raises(ServiceError) as refused:
            await wallet._target.call(
                wallet._stub.GetBalance, wallet_pb2.GetBalanceRequest(currency="GBP"), idempotent=True,
                principal=principal,
            )  # fmt: skip
        assert refused.value.code == grpc.StatusCode.UNAUTHENTICATED
        assert refused.value.reason == (reason or "PRINCIPAL_FORGED")


async def test_movements_are_listed_newest_first_in_pages(wallet: Wallet, bet_service: BetService) -> None:
    """No movement twice, none left out, also when money moves between two pages."""
    async with bet_service("bet-service-1"):
        for amount in (10, 20, 30, 40, 50):
            await wallet.deposit(amount)
        await wallet.withdraw(60)
        everything = await wallet.until_listed(6)
        assert [each.cash_minor for each in everything] == [-60, 50, 40, 30, 20, 10]
        assert everything[0].kind == wallet_pb2.TRANSACTION_KIND_WITHDRAWAL
        first = await wallet.transactions(4)
        await wallet.deposit(70)
        await wallet.until_listed(7)
        second = await wallet.transactions(4, first.next_page_token)
        assert [each.cash_minor for each in (*first.transactions, *second.transactions)] == [-60, 50, 40, 30, 20, 10]
        assert second.next_page_token == ""
        with pytest.raises(ServiceError, match="PAGE_TOKEN_INVALID"):
            await wallet.transactions(4, first.next_page_token, "EUR")


async def test_without_an_owner_a_caller_is_held_until_its_time_is_over(wallet: Wallet) -> None:
    """Then it learns that nothing was done."""
    with pytest.raises(ServiceError) as refused:
        await wallet.deposit(1, timeout_s=0.5)
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE")


async def test_deposits_go_on_while_owners_change(wallet: Wallet, bet_service: BetService, database: Any) -> None:
    """The first owner drains and the second takes over: every deposit is answered, and paid in exactly once."""
    wallets = [wallet, *(wallet.somebody_else() for _ in range(7))]

    async def deposits(of: Wallet, stop: asyncio.Event) -> int:
        paid_in = 0
        while not stop.is_set():
            assert (await of.deposit(1)).HasField("balance")
            paid_in += 1
        return paid_in

    async with AsyncExitStack() as second:
        async with bet_service("bet-service-1"):
            for each in wallets:
                await each.deposit(1)
            stop = asyncio.Event()
            running = [asyncio.ensure_future(deposits(each, stop)) for each in wallets]
            await second.enter_async_context(bet_service("bet-service-2"))
        await _until_owned_by(database.dsn, "bet-service-2")
        stop.set()
        for each, paid_in in zip(wallets, await asyncio.gather(*running), strict=True):
            assert paid_in > 0
            assert (await each.balance()).cash_minor == 1 + paid_in


async def _until_owned_by(dsn: str, instance: str) -> None:
    connection = await asyncpg.connect(dsn)
    count = "SELECT count(*) FROM betting.shards WHERE owner LIKE $1 AND state = 'owned'"
    async with asyncio.timeout(WAIT_S):
        while True:
            if await connection.fetchval(count, f"{instance}@%") == SHARDS:
                break
            await asyncio.sleep(POLL_S)
    await connection.close()
