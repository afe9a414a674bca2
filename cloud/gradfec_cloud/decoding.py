"""From what has arrived of a tensor to its features."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from gradfec_common.fill import Fill
from gradfec_common.reassembly import DecodedTensor, Reassembly, decode_tensor
from gradfec_host.runtimes import cores


class Decoder:
    """Decodes tensors, one at a time. The blocks of a tensor share a thread for each core: zfec releases the GIL."""

    def __init__(self, fill: Fill) -> None:
        """Fill the gaps of each tensor with `fill`."""
        self._fill = fill
        self._threads = ThreadPoolExecutor(cores(), "decoder")

    def decode(self, arrived: Reassembly) -> DecodedTensor:
        """Erasure-decode, dequantise and fill a tensor."""
        return decode_tensor(arrived, self._fill, self._threads.map)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False)
