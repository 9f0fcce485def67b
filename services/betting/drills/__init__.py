"""Fault injection, simulated bettors and measurement: `betting demo`, `quiet` and `chaos`."""
