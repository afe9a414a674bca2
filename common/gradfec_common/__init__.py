"""The pure half of gradfec: tensors, packets, plans, codes, the wire format and the two protocol cores.

Nothing in here opens a socket, reads a clock, starts a thread or draws a random number of its own: `now` and the
random generator are arguments, so that the same code runs in the daemons and in the simulations.
"""
