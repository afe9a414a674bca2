"""From what has arrived of a tensor to its features."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from gradfec_common.conceal import Concealment
from gradfec_common.decode import DecodedTensor, decode_tensor
from gradfec_common.reassembly import Reassembly
from gradfec_host.runtimes import cores


class Decoder:
    """Decodes tensors, one at a time. The stripes of a tensor share a thread for each core: zfec releases the GIL."""

    def __init__(self, conceal: Concealment) -> None:
        """Fill the gaps of each tensor by `conceal`."""
        self._conceal = conceal
        self._threads = ThreadPoolExecutor(cores(), "decoder")

    def decode(self, arrived: Reassembly) -> DecodedTensor:
        """Erasure-decode, dequantise and conceal a tensor."""
        return decode_tensor(arrived, self._conceal, self._threads.map)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False)
