"""health-monitor: asks every instance how it is, and puts the answers together into one status of the platform."""
