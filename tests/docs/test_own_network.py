"""The code in the how-to for users' own networks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks

from gradfec_host.models.graph import Graph


@pytest.mark.torch
def test_what_exports_from_pytorch_makes_a_file_that_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(5))
    model(torch.zeros(1, 3, 224, 224))
    (code,) = (block for block in blocks(ROOT / "docs/how-to/own-network.md") if "torch.onnx.export" in block)
    monkeypatch.chdir(tmp_path)
    exec(code, {"torch": torch, "model": model})
    graph = Graph.read(tmp_path / "mine.onnx")
    assert (graph.input, graph.dims) == ("image", (1, 3, 224, 224))
    assert [one.name for one in graph.proto.graph.output] == ["logits"]
