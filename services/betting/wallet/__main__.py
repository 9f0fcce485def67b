"""`python -m betting.wallet`"""

from betting.runtime.service import run_service
from betting.wallet.main import compose
from betting.wallet.settings import WalletSettings

run_service("wallet-service", compose, WalletSettings)
