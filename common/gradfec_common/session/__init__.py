"""The two protocol cores, sans-IO: datagrams and `now` in; datagrams, events and the time of the next timer out.

A shell (a daemon, or a simulation) calls five verbs: `receive`, `datagrams_to_send`, `next_timer`, `handle_timer`,
`next_event`. Receiving never raises: what cannot be used is counted under one named reason.
"""
