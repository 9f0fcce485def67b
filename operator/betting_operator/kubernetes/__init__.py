"""The operator on Kubernetes: it makes what a BettingPlatform describes, and runs the healer beside it.

| module           | what                                                                              |
| ---------------- | --------------------------------------------------------------------------------- |
| `schema`         | every field of the resource: the one source of CRD, defaults and documents        |
| `spec`           | the resource as values                                                            |
| `workloads`      | what runs, and in which order a new version rolls                                 |
| `manifests`      | pure: spec to Deployments, Services, autoscalers, disruption budgets              |
| `databases`      | pure: spec to Postgres, Redis, the migration, the Secrets made once               |
| `network`        | pure: spec to network policies and the Ingress                                    |
| `reconcile`      | pure: what is there against what should be: what to apply, what has to wait       |
| `status`         | pure: phase, conditions, numbers                                                  |
| `kinds`          | pure: kinds of objects, as requests name them                                     |
| `client`         | requests to the API server, with typed errors                                     |
| `candidate`      | the rules of leadership: pure                                                     |
| `elector`        | leadership: of several operators only one acts                                    |
| `list_watch`     | lists and watches of one kind in one sequence, for the healer's port              |
| `watching`       | what exists: Kopf's watches, full lists, and the cache that both feed             |
| `facts`          | what the platform's database says about it                                        |
| `healer_process` | the healer, a child of the leader                                                 |
| `reconciler`     | the shell around `reconcile`: looks, plans, applies, reports                      |
"""
