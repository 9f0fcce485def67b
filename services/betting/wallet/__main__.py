"""`python -m betting.wallet`"""

from betting.runtime.service import run_service
from betting.wallet.main import WalletSettings, compose

run_service("wallet-service", compose, WalletSettings)
