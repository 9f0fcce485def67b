"""Prices: season files, the odds-service, its feed replay, and the client that watches it."""
