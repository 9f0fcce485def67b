"""wallet-service: balances, deposits and withdrawals at the shard's owner, movements from the read model."""
