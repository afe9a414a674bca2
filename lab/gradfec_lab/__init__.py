"""The laboratory: sweeps, training and benchmarks."""
