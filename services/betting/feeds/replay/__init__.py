"""The season replay: a feed that plays a real season, as fast as it is told."""
