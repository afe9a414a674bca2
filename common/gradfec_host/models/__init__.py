"""Models that users bring as ONNX files: a folder each, which `gradfec model add` fills."""

from __future__ import annotations

from gradfec_host.models.find import cut_called as cut_called
from gradfec_host.models.find import model_of as model_of
from gradfec_host.models.find import network_called as network_called
from gradfec_host.models.store import Model as Model
