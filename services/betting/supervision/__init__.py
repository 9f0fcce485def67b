"""Processes on one machine: one supervisor starts, restarts, signals and stops them, and says how they are.

Knows nothing of betting: what runs is given to it. `embedded` says what that is.
"""
