"""Research tools: sweeps, training and benchmarks."""
