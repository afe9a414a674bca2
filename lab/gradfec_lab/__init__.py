"""The laboratory: channel models, loss injector, demo, measurements, and the `gradfec` command."""
