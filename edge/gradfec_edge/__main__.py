"""Run the edge daemon: `python -m gradfec_edge`."""

from gradfec_edge.cli import main

main()
