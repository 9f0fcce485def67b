"""The operator on Kubernetes: it makes what a BettingPlatform describes, and runs the healer beside it.

| module           | what                                                                              |
| ---------------- | --------------------------------------------------------------------------------- |
| `schema`         | every field of the resource: the one source of CRD, defaults and documents        |
| `schema_parts`   | what the schema is made of: fields with bounds and defaults                       |
| `crd_frame`      | what the CustomResourceDefinitions have in common                                 |
| `crd`            | the CustomResourceDefinition: schema, status, printer columns                     |
| `crd_healing_actions` | the CustomResourceDefinition of HealingAction                                |
| `healing_actions` | pure: names, bounds and age of HealingActions                                    |
| `healing_report` | pure: what the healer tells of the present, as fields of the status               |
| `crd_shard_rebalances` | the CustomResourceDefinition of ShardRebalance                              |
| `spec`           | the resource as values                                                            |
| `workloads`      | what runs, and in which order a new version rolls                                 |
| `manifests`      | pure: what all objects have in common: names, labels, owners, parts of pods       |
| `deployments`    | pure: spec to the Deployments of services and feeds                               |
| `services`       | pure: spec to Services, disruption budgets, autoscalers                           |
| `databases`      | pure: spec to Postgres, Redis, the migration, the Secrets made once               |
| `network`        | pure: spec to network policies and the Ingress                                    |
| `installation`   | pure: whether a database is the platform's                                        |
| `reconcile`      | pure: what is there against what should be: what to apply, what has to wait       |
| `pod_faults`     | pure: why pods do not run, in the words of scheduler and kubelet                  |
| `status`         | pure: phase, conditions, numbers                                                  |
| `kinds`          | pure: kinds of objects, as requests name them                                     |
| `client`         | requests to the API server, with typed errors                                     |
| `events`         | Events that are counted                                                           |
| `candidate`      | the rules of leadership: pure                                                     |
| `elector`        | leadership: of several operators only one acts                                    |
| `list_watch`     | lists and watches of one kind in one sequence, for the healer's port              |
| `watching`       | what exists: Kopf's watches, full lists, and the cache that both feed             |
| `facts`          | what the platform's database says about it                                        |
| `healer_process` | the healer, a child of the leader                                                 |
| `rebalance_plan` | pure: the plan of a ShardRebalance, and what it costs                             |
| `rebalance`      | pure: the next status of a ShardRebalance                                         |
| `rebalance_directory` | who owns which shard, from the platform's database                           |
| `rebalancing`    | ShardRebalances: their watch, and the loop that plans, tells and proposes         |
| `reconciler`     | the shell around `reconcile`: looks, plans, reports                               |
| `writes`         | writes the objects of a plan, and tries again what is refused                     |
| `settings`       | the settings of the operator's process                                            |
| `main`           | the process: leads, watches, reconciles, runs the healer                          |
"""
