"""Our own services as others see them: the router to a shard's owner, and the watch of odds-service's prices."""
