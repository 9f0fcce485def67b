"""The season replay: a feed that plays a real season at a configurable speed."""
