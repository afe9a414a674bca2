"""Run the cloud daemon: `python -m gradfec_cloud`."""

from gradfec_cloud.cli import main

main()
