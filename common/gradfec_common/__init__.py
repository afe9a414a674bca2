"""The pure half of gradfec: tensors, packets, plans, codes, the wire format and the two protocol cores.

This package opens no sockets, reads no clocks, starts no threads and draws no random numbers. `now` and the random
generator are arguments, so the same code runs in the daemons and in the simulations.
"""
