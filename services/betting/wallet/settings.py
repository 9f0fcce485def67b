"""Settings of wallet-service (BETTING_*)."""

from __future__ import annotations

from betting.runtime.settings import ServiceSettings


class WalletSettings(ServiceSettings):
    """The settings of wallet-service beyond those of every service."""

    # Allows deposits and withdrawals of play money: of any amount, without a payment.
    sandbox_money: bool = False
