"""What a daemon shows over HTTP: metrics and health, and a live page, served by a process of its own."""
