"""event-service: what can be bet on."""
