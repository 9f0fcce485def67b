"""bet-service: owns shards, decides bets, makes them durable, answers.

| module       | role                                                                                   |
| ------------ | -------------------------------------------------------------------------------------- |
| `main`       | composition root                                                                       |
| `servicer`   | OwnerService over gRPC                                                                 |
| `execution`  | many commands to one shard in one call: decide each, answer once all is durable        |
| `cold`       | answers that are not in memory: settled bets, old request keys                         |
| `instance`   | what one process is: name, shards, their parts; the limit on recorded refusals         |
| `translate`  | protobuf commands to engine commands, engine replies to protobuf results               |
| `shard`      | one owned shard: its state, what waits to be durable, who waits for it                 |
| `committer`  | group commit: one append in flight, the next batch gathers                             |
| `journal_link` | the committer's own connection to Postgres                                           |
| `listener`   | hears that the directory changed                                                       |
| `takeover`   | taking a shard: acquire, snapshot, tail                                                |
| `ownership`  | which shards to claim, which to hand on, and when                                      |
| `standing`   | what beats and clocks allow to be concluded                                            |
| `book`       | the price book: what every selection costs right now, and how old that knowledge is    |
| `settling`   | drives a market's settlement through a shard, chunk by chunk                           |
| `snapshots`  | writes snapshots of committed state in slices                                          |
| `followers`  | projector and outbox: what follows the journal                                         |
| `clock`      | the database's time, kept between appends                                              |
| `exposition` | numbers for Prometheus                                                                 |
"""
