"""health-monitor: probes every instance and merges the results into one status of the platform."""
