"""Producers of events, prices and results: the replay of season files, and The Odds API."""
