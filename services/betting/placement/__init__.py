"""Which user is in which shard, and which instance should own a shard. Pure; shared by instances, healer and router."""

from betting.placement.shards import Candidate, place, rolling, shard_of

__all__ = ["Candidate", "place", "rolling", "shard_of"]
