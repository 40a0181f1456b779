"""Wrong configs and lists are refused before any work, each in one line that names what is wrong and the mend."""

from pathlib import Path

import pytest

from nlnet.cli import VERBS, run
from nlnet.config.compose import compose
from nlnet.config.preflight import check_views, short_videos
from nlnet.data.annotations import from_folder
from nlnet.data.decoders.cached import CachedDecoder
from nlnet.data.decoders.pyav import PyAVDecoder
from nlnet.data.decoders.time_limit import LimitedDecoder
from nlnet.errors import ConfigError
from tests.conftest import write_clip
from tests.faults import configs, lists


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    configs.make_home(folder)
    return folder


@pytest.mark.parametrize("mutation", configs.MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_wrong_config_is_refused_before_any_work(mutation: configs.Mutation, home: Path) -> None:
    _, refused, said = configs.attempt(mutation, home)
    assert refused, said


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_option_of_any_verb_is_one_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, ["--no-such-option"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nlnet {verb}: ")
    assert error.count("\n") == 1


def test_a_test_that_the_network_cannot_do_is_refused() -> None:
    config = compose("train", ["data.root=x", "model=c2d_r50", "model/init=scratch"])
    check_views(config.model, config.data)
    config.data.views.frames = 1
    with pytest.raises(
        ConfigError, match=r"data\.clip\.frames=1: .* layer res2\.pool .*2 frames do: data\.clip\.frames=2"
    ):
        check_views(config.model, config.data)


def test_a_typo_is_refused_with_the_right_key() -> None:
    results = list(configs.typos(every=20))
    assert len(results) >= 10
    wrong = [f"{name}: {said}" for name, survived, said in results if not survived]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("mutation", lists.MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_list_is_read_right_or_refused(mutation: lists.Mutation, tmp_path: Path) -> None:
    _, right, said = lists.attempt(mutation, tmp_path)
    assert right, said


def test_the_corpora_are_as_large_as_promised() -> None:
    assert len(configs.MUTATIONS) >= 60
    assert len(lists.MUTATIONS) >= 40
    for table in (configs.MUTATIONS, lists.MUTATIONS):
        assert len({mutation.name for mutation in table}) == len(table)


def test_short_videos_are_a_warning_with_their_share(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number, frames in enumerate((4, 9, 10, 20)):
            write_clip(tmp_path / name / f"{number}.mp4", (60, 60, 60), seed=number, frames=frames)
    (tmp_path / "a" / "bad.mp4").write_bytes(b"no video")
    videos = from_folder(root=str(tmp_path), val_fraction=0.01).train  # one video of each class is held out
    kept = sum(video.name.startswith(("a/0", "b/0", "a/1", "b/1")) for video in videos.videos)
    readable = sum("bad" not in video.name for video in videos.videos)
    warning = short_videos(videos, PyAVDecoder(), frames=4, stride=3)  # from the first frame to the last: 10
    assert warning is not None
    assert f"warning: {kept / readable:.0%} of the training videos" in warning
    assert "data.clip" in warning
    assert short_videos(videos, PyAVDecoder(), frames=2, stride=3) is None
    remembering = CachedDecoder(PyAVDecoder())
    assert short_videos(videos, LimitedDecoder(remembering, 60), frames=4, stride=3) == warning
    assert not remembering._videos, "no video is decoded for it"
