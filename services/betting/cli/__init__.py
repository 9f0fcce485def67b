"""The command line: `betting up`, `demo`, `status`, `audit`, `bench`, `season`."""
