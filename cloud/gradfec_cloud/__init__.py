"""The cloud daemon: packets in, erasure decoding, back-end, answers out."""
