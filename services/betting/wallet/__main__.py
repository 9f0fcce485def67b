"""`python -m betting.wallet`"""

from betting.runtime.service import ServiceSettings, run_service
from betting.wallet.main import compose

run_service("wallet-service", compose, ServiceSettings)
