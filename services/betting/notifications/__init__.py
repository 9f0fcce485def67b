"""notification-service: stores what happened to users' money and bets, fed by the journal's streams.

| module     | role                                                        |
| ---------- | ----------------------------------------------------------- |
| `main`     | composition root                                            |
| `causes`   | which entries make a notification, and what it says; pure   |
| `feed`     | takes entries in, each cause once                           |
| `store`    | SQL                                                         |
| `render`   | rows as the public contract shows them; pure                |
| `servicer` | NotificationService over gRPC                               |
| `janitor`  | keeps the newest of an account                              |
"""
