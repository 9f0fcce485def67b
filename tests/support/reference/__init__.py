"""The slow twin of the engine: the rules of the business, to be read. Fractions, dicts, no cleverness.

It shares no rule with `decide`, `settlement` and `apply`: it was written from the design, so that both are unlikely to
be wrong in the same way. Tests run commands through both and compare everything that can be seen.

| module     | holds                                                                     |
| ---------- | ------------------------------------------------------------------------- |
| `ledger`   | who has how much money: transfers between named accounts                  |
| `bets`     | bets, and what they pay under given results                               |
| `answers`  | what request keys were used for                                           |
| `refusing` | why a command is turned down                                              |
| `books`    | everything a shard knows, and the list of what happened                   |
| `settling` | the rules for results                                                     |
| `shard`    | `Reference`: the rules for bets and cash                                  |
| `cold`     | a read model in memory: settled bets, request keys, totals                |
| `lockstep` | engine, reference and read model side by side, compared after each command |
| `canonical` | a state as sorted plain values, its hash, its invariants                  |
"""

from reference.cold import ReadModel
from reference.lockstep import Disagreement, Lockstep
from reference.shard import Reference

__all__ = ["Disagreement", "Lockstep", "ReadModel", "Reference"]
