"""Inference requests for whole pictures, over HTTP: the Open Inference Protocol, which KServe and Triton speak, too."""
