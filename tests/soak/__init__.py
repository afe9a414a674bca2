"""The real daemons under attack and under faults, for minutes or hours, with a report: `make attack`, `make soak`."""
