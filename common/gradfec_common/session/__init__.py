"""The two protocol cores. They do no I/O: datagrams and `now` go in; datagrams, events and the next timer come out.

A shell (a daemon, or a simulation) calls five verbs: `receive`, `datagrams_to_send`, `next_timer`, `handle_timer`,
`next_event`. Receiving never raises: a datagram that cannot be used is counted under one named reason.

`edge.EdgeSession` is the edge's core, `cloud.CloudSessions` the cloud's. Each is made of parts, which own their state:

    edge    contact     the link: its state, and when to ask, to say hello and to say goodbye
            in_flight   tensors that await their answer, and acknowledgements
    cloud   reception   hellos: answered, refused or ignored; with greeter, which limits and remembers them
            sessions    what is kept of each edge
            unseal      from sealed datagrams to symbols
            tensors     collecting, deciding, answering, closing; with tensor and window
            sketches    what edges show people of their tensors
            repeater    results and reports, until they are acknowledged
            outbox      what goes out, within each address's credit
    both    states      the states of all of these, and what leads from one to another
            handshake   the cryptography of hello and welcome

What a part of the cloud asks the core to do, it returns: see effects.
"""
