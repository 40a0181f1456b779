"""What a video file holds: found by opening it, decoding a few of its frames, or all of them."""

import hashlib
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from nlnet.data.decoders import VideoInfo
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.errors import VideoError

OK, DAMAGED, BAD = "ok", "damaged", "bad"
COLUMNS = ("frames", "width", "height", "frames_per_second", "seconds", "codec", "container", "audio")


class Question(NamedTuple):
    """One video, and how closely to look at it."""

    name: str
    path: str
    probes: int  # frames to decode: the first, the last and random ones; 0 only opens the file
    whole: bool = False  # whether to decode all of it


def facts_of(question: Question) -> dict[str, Any]:
    """{"status": ok, damaged or bad, "reason": …} and, unless it is bad, COLUMNS. Never raises for a bad file.

    A damaged video can be used, but some of its frames are lost. Random frames are the same each time.
    """
    try:
        with PyAVDecoder().open(question.path) as reader:
            info = reader.info
            for index in _probed(question, info.num_frames):
                reader.frames([index])
        found = _of_container(question.path, info)
        lost = _lost_frames(question.path) if question.whole else ""
    except VideoError as error:
        return {"status": BAD, "reason": error.reason}
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return {"status": BAD, "reason": str(getattr(error, "strerror", None) or error)}
    reason = lost or found.pop("cut_off", "")
    found.pop("cut_off", None)
    return {"status": DAMAGED if reason else OK, "reason": reason, **found}


def _probed(question: Question, num_frames: int) -> list[int]:
    """Indices of the frames to decode: the first, the last, and random ones that the name decides."""
    if not question.probes:
        return []
    seed = int.from_bytes(hashlib.sha256(question.name.encode(errors="surrogateescape")).digest()[:8], "big")
    random = np.random.default_rng(seed).integers(num_frames, size=max(0, question.probes - 2)).tolist()
    return sorted({0, num_frames - 1, *random} if question.probes > 1 else {0})


def _of_container(path: str, info: VideoInfo) -> dict[str, Any]:
    """What the container says, and the reader has counted."""
    with av.open(path, metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
        stream: Any = container.streams.best("video")
        rate = info.frames_per_second
        declared = stream.frames  # 0 where the container does not say
        facts = {
            "frames": info.num_frames,
            "width": info.width,
            "height": info.height,
            "frames_per_second": round(rate, 3),
            "seconds": round(info.num_frames / rate, 3) if rate else 0.0,
            "codec": stream.codec_context.name,
            "container": container.format.name.split(",")[0],
            "audio": bool(container.streams.audio),
        }
        # An edit list may hide some frames; a file that was cut off lacks more than that.
        if declared and info.num_frames < 0.9 * declared:
            facts["cut_off"] = f"{info.num_frames} of {declared} frames are there; cut off?"
        return facts


def _lost_frames(path: str) -> str:
    """Decodes all of a video -> what is lost of it, "" for nothing."""
    packets = failed = corrupt = decoded = 0
    with av.open(path, metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
        stream: Any = container.streams.best("video")
        stream.codec_context.thread_count = 1
        demuxed = container.demux(stream)
        while True:
            try:
                packet = next(demuxed, None)
            except av.error.FFmpegError:
                failed += 1
                break
            if packet is None:
                break
            packets += bool(packet.size)
            try:
                for frame in stream.codec_context.decode(packet):
                    decoded += 1
                    corrupt += bool(frame.is_corrupt)
            except av.error.FFmpegError:
                failed += 1
    if failed or corrupt:
        return f"{failed + corrupt} of {packets} packets cannot be decoded, {decoded} frames can"
    return ""


def displayed_rate(stream: Any) -> Fraction:
    """Frames per second of a stream; 25 where neither container nor codec say."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate:
            return Fraction(rate.numerator, rate.denominator)
    return Fraction(25)
