"""The loader's benchmark measures what it says, and the pipelines beside it read the same clips."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from nlnet.benchmark import loader
from nlnet.benchmark.clip_pipelines import Clips, DecodingAlone, DecordPipeline, TorchCodecPipeline
from nlnet.benchmark.sample_videos import NUM_FRAMES, encode, moving_pictures
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.data.transforms import TrainView
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """A generated video, cut short."""
    path = tmp_path_factory.mktemp("generated") / "a.mp4"
    frames = (frame for number, frame in enumerate(moving_pictures(0)) if number < 50)
    encode(path, frames, key_every=250)
    return Clips([str(path)], TrainView(frames=8, stride=2))


def test_generated_videos_are_what_their_page_says(clips: Clips) -> None:
    with PyAVDecoder().open(clips.paths[0]) as reader:
        assert (reader.info.num_frames, reader.info.height, reader.info.width) == (50, 256, 340)
        assert reader.info.frames_per_second == 30
        frames = reader.frames([0, 1, 40]).astype(int)
    assert 0.5 < np.abs(frames[0] - frames[1]).mean() < np.abs(frames[0] - frames[2]).mean() < 80
    assert NUM_FRAMES == 300


def test_decoding_alone_leaves_out_what_it_may(clips: Clips) -> None:
    for number in range(4):
        with PyAVDecoder().open(clips.paths[0]) as reader:
            last = max(clips.draw(number, reader.info).indices)
        whole, dropped = (DecodingAlone(clips, drop=drop)[number] for drop in (False, True))
        assert whole == last + 1  # from the only key frame on
        assert 8 <= dropped < whole


@pytest.mark.parametrize("pipeline", [DecordPipeline, TorchCodecPipeline])
def test_other_pipelines_read_the_same_clips(pipeline: type, clips: Clips) -> None:
    try:
        other = pipeline(clips)
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"not installed: {error}")
    for number in range(3):
        with PyAVDecoder().open(clips.paths[0]) as reader:
            expected = torch.from_numpy(reader.read(clips.draw(number, reader.info)))
        clip = other[number]
        assert clip.shape == expected.shape == (8, 224, 224, 3)
        assert clip.dtype == torch.uint8
        # Boxes are in whole pixels of the source here, of the resized frame there.
        assert (clip.float() - expected.float()).abs().mean() < 6
        assert (clip.roll(4, 0).float() - expected.float()).abs().mean() > 10


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    loader.add_options(parser)
    return parser.parse_intermixed_args(arguments)


def test_the_loader_is_measured_on_own_videos(class_folder: Path) -> None:
    small = [text for text in SMALL if not text.startswith(("workers", "device"))]
    turns = ["--batch", "2", "--batches", "2", "--turns", "2", "--videos", "5", "--rivals"]
    report = loader.run(options(*turns, f"data.root={class_folder}", *small))
    rates = {record["row"]: record["clips_per_second"] for record in report.records if "row" in record}
    assert {"decoding alone", "decoding alone, unneeded frames left out"} < set(rates)
    assert sum(name.startswith("nlnet") for name in rates) >= 3
    assert all(len(turns) == 2 and min(turns) > 0 for turns in rates.values())
    (shares,) = [record["stages_ms"] for record in report.records if "stages_ms" in record]
    assert list(shares) == ["open", "decode", "convert", "augment", "collate", "transfer"]
    assert all(value >= 0 for value in shares.values())
    (costs,) = [record["cpu_ms"] for record in report.records if "cpu_ms" in record]
    assert list(costs) == ["nlnet", *(name for name in rates if not name.startswith("nlnet"))]
    assert all(value > 0 for value in costs.values())
    text = report.text()
    assert "proposal: workers=" in text
    assert "re-encoding with a key frame every 30 frames" in text
