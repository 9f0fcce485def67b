"""The pure money core: no I/O, no clock, no randomness.

    decide(state, command, now_us, limits) -> Decision(entries, reply)     never mutates
    apply(state, entry)                                                    the only mutator; replay uses it too

| module        | holds                                                              |
| ------------- | ------------------------------------------------------------------ |
| `ids`         | identifiers and how they are derived                               |
| `prices`      | exact prices, payouts, limits                                      |
| `outcomes`    | results of selections and what a result makes of a leg             |
| `records`     | the bytes of an open bet and of every entry's body                 |
| `entries`     | the kinds of entry                                                 |
| `state`       | one shard's accounts, open bets, results, recent request keys      |
| `commands`    | what can be asked of a shard, what it answers                      |
| `refusals`    | why commands are turned down, in checking order                    |
| `validation`  | what no command may look like                                      |
| `repeats`     | is a repeated request key the same request                         |
| `decide`      | the rules for bets and cash                                        |
| `settlement`  | the rules for results, chunk by chunk                              |
| `apply`       | the only place that changes a state                                |
| `snapshots`   | a state as bytes, and back, in slices                              |
| `placement`   | which shard a user is in, which instance owns a shard              |

Its slow twin in `Fraction`, written to disagree when this is wrong, is tests/support/reference.
"""
