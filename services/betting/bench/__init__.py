"""Benchmarks on real processes: each figure beside its budget, as a table and as JSON. Never run as tests.

| module     | measures                                                             |
| ---------- | -------------------------------------------------------------------- |
| `world`    | a platform to measure, its users, its prices                         |
| `batch`    | durable bets/s, batches through gRPC                                 |
| `single`   | durable bets/s, single bets through the gateway (wrk)                |
| `settling` | settling one market                                                  |
| `memory`   | bytes per open bet                                                   |
| `failover` | an owner killed, until its worst shard takes a bet                   |
| `resting`  | start-up, memory and CPU at rest                                     |
| `report`   | figures, budgets, table, JSON                                        |
"""
