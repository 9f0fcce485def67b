"""The healing brain: pure. Observations in, plans out; see `brain.step`.

| module       | role                                                                  |
| ------------ | --------------------------------------------------------------------- |
| `signals`    | what is seen                                                          |
| `evidence`   | how long silence has lasted, and when that stops counting             |
| `standstill` | since when a follower of the journal has stood still                  |
| `diagnoses`  | everything that can be concluded, and the evidence each needs         |
| `diagnose`   | the rules                                                             |
| `redis_signals`, `redis_actions` | Redis: what is seen of it, what can be done             |
| `redis_diagnose`, `redis_failover` | what that means; failover, one step at a time          |
| `placement`  | where shards should be                                                |
| `policy`     | what is allowed                                                       |
| `actions`    | what can be done, each with its fence                                 |
| `plan`       | what is done, at two prices, and why the rest is not                  |
| `memory`     | what is kept from tick to tick                                        |
| `brain`      | one tick                                                              |
| `codec`, `flight` | the record of every tick, and its replay                         |
"""
