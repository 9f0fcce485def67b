"""The healing brain: pure. Observations in, plans out; see `brain.decide`.

| module       | role                                                                  |
| ------------ | --------------------------------------------------------------------- |
| `signals`    | what is seen                                                          |
| `diagnoses`  | everything that can be concluded: evidence, severity, time that does not count |
| `evidence`   | how long silence has lasted, and which time counts                    |
| `diagnose`   | rules about processes, directory, database and host                   |
| `stall`, `feeds`, `grey`, `sizes` | what each watches over time, and concludes  |
| `handovers`, `ledger`, `retiring` | likewise, and what is done about it              |
| `redis_signals`, `redis_actions` | Redis: what is seen of it, what can be done             |
| `redis_diagnose`, `redis_failover` | what that means; failover, one step at a time          |
| `placement`  | where shards should be                                                |
| `rebalancing` | planned moves that people ask for: which are needed, which begin now |
| `policy`     | what is allowed                                                       |
| `actions`    | what can be done, each with its fence                                 |
| `gate`       | which disruptive action may be taken: pause, budget, cool-down, attempts     |
| `escalation` | what follows where a restart does not help: move away, roll back, scale out  |
| `plan`       | what is done, and why the rest is not                  |
| `memory`     | what is kept from tick to tick                                        |
| `brain`      | one tick                                                              |
| `repairs`, `causes` | for people: how long what was wrong lasted; which diagnosis an action answers |
| `codec`, `flight` | the record of every tick, and its replay                         |
"""
