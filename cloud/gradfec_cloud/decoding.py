"""From the datagrams of a tensor that arrived to its features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from gradfec_cloud.filling import InTime
from gradfec_common.conceal import Concealment
from gradfec_common.decode import DecodedTensor, decode_tensor
from gradfec_common.networks import Cut
from gradfec_common.reassembly import Reassembly
from gradfec_host.quiet import quiet_opencv
from gradfec_host.runtimes import cores


class Decoder:
    """Decodes tensors, one at a time. The stripes of a tensor share a thread for each core: zfec releases the GIL."""

    def __init__(self, concealments: Mapping[Cut, Concealment]) -> None:
        """Fill the gaps of the tensors of each cut by its concealment."""
        quiet_opencv()
        self._concealments = concealments
        self._threads = ThreadPoolExecutor(cores(), "decoder")

    def decode(self, cut: Cut, arrived: Reassembly) -> DecodedTensor:
        """Erasure-decode, dequantise and conceal what arrived of a tensor of a cut."""
        return decode_tensor(arrived, self._concealments[cut], self._threads.map)

    @property
    def given_up(self) -> Counter[str]:
        """Tensors whose concealment was given up, by the reason."""
        limited = [conceal for conceal in self._concealments.values() if isinstance(conceal, InTime)]
        return sum((conceal.given_up for conceal in limited), Counter[str]())

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False)
