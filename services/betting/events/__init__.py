"""event-service: the catalogue of sports, leagues, events and markets."""
