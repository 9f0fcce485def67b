"""Processes on one machine: a supervisor starts, restarts, signals and stops them, and reports their state.

It knows nothing of betting: `embedded` says which processes there are.
"""
