"""Settings of wallet-service (BETTING_*)."""

from __future__ import annotations

from betting.runtime.settings import ServiceSettings


class WalletSettings(ServiceSettings):
    """What wallet-service can be told beyond what every service is told."""

    # Money here is play money: anybody may pay in any amount, and nobody is asked for it.
    sandbox_money: bool = False
