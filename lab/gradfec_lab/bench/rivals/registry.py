"""The rivals by name."""

from __future__ import annotations

from gradfec_lab.bench.rivals.h264_srt import H264Srt
from gradfec_lab.bench.rivals.jpeg_rs import JpegRs
from gradfec_lab.bench.rivals.jpeg_tcp import JpegTcp
from gradfec_lab.bench.rivals.ours import Ours
from gradfec_lab.bench.rivals.rival import Rival

ZERO_FILL = ("--fill", "zero")  # as in the paper
RIVALS: dict[str, Rival] = {
    "auto": Ours(),
    "paper-20": Ours(("--mode", "paper", "--protect", "FEC_20_80"), ZERO_FILL),
    "paper-50": Ours(("--mode", "paper", "--protect", "FEC_50_50"), ZERO_FILL),
    "jpeg-rs": JpegRs(),
    "jpeg-tcp": JpegTcp(),
    "h264-srt-120": H264Srt(120),
    "h264-srt-500": H264Srt(500),
}
