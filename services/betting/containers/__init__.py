"""The database servers as the main process of a container, and the probe that a container's health is asked with."""
