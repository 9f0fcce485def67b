"""The operator that the platform starts with, as the settings say."""

from __future__ import annotations

from collections.abc import Callable

from betting.runtime.errors import ConfigurationError, ServiceError
from betting.runtime.ids import new_uuid7
from betting.users import inputs
from betting.users.model import Credentials, EndReason, Role, User
from betting.users.passwords import Passwords, Purpose
from betting.users.sessions import Sessions
from betting.users.store import UserStore

DISPLAY_NAME = "Operator"


class OperatorBootstrap:
    """Makes sure the operator exists with the password of the settings; may run in several processes at once."""

    def __init__(self, store: UserStore, passwords: Passwords, sessions: Sessions, now_us: Callable[[], int]) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._now_us = now_us

    async def ensure(self, email: str, password: str) -> None:
        """Adds the operator, or gives them a new password, which ends their sessions.

        Raises ConfigurationError when the settings cannot be used: never with the password in it.
        """
        email, password = _checked(email, password)
        known = await self._store.credentials(email) or await self._added(email, password)
        if known.user.role is not Role.OPERATOR:
            raise ConfigurationError("BETTING_OPERATOR_EMAIL is the address of a bettor: choose another one")
        if not await self._passwords.matches(password, known.password_hash, Purpose.OPERATOR):
            await self._replace_password(known, password)

    async def _added(self, email: str, password: str) -> Credentials:
        user = User(new_uuid7(), email, DISPLAY_NAME, Role.OPERATOR, self._now_us())
        await self._store.add_user(user, await self._passwords.hash(password, Purpose.OPERATOR))
        added = await self._store.credentials(email)  # ours, or that of a process that was faster
        assert added is not None, "users are never deleted"
        return added

    async def _replace_password(self, known: Credentials, password: str) -> None:
        new_hash = await self._passwords.hash(password, Purpose.OPERATOR)
        if await self._store.replace_hash(known.user.user_id, known.password_hash, new_hash):
            await self._sessions.end(known.user.user_id, None, EndReason.PASSWORD_CHANGED)


def _checked(email: str, password: str) -> tuple[str, str]:
    try:
        return inputs.normalised_email(email), inputs.new_password(password)
    except ServiceError as error:
        raise ConfigurationError(f"BETTING_OPERATOR_EMAIL or BETTING_OPERATOR_PASSWORD: {error.message}") from None
