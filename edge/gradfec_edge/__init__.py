"""The edge daemon: camera, front-end, importance, packets out; answers in."""
