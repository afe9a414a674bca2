"""What a daemon serves over HTTP: metrics and health, and a live page, which runs in its own process."""
