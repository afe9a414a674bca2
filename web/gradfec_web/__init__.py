"""A live page of what a daemon does, served by a process of its own."""
