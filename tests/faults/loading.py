"""Files that would run code: pickles in every container and place, and configs that name what they must not."""

import contextlib
import io
import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

import nlnet
from nlnet import cli
from nlnet.config.compose import compose, plain
from nlnet.config.models import build_model
from nlnet.engine.checkpoint import CheckpointFolder, load_checkpoint, save_checkpoint
from nlnet.errors import NlnetError
from nlnet.report.run_folder import RunFolder
from nlnet.status import write_status
from tests.conftest import SMALL
from tests.faults.processes import Case, Processes, TinyRun


class Bomb:
    """Calls something when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def bombs(mark: Path) -> dict[str, Bomb]:
    """Payloads that leave ``mark`` behind."""
    shell = Bomb(os.system, f"touch '{mark}'")
    return {
        "os.system": shell,
        "eval": Bomb(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Bomb(exec, f"open({str(mark)!r}, 'w')"),
        "subprocess": Bomb(subprocess.call, ["touch", str(mark)]),
        "open": Bomb(open, str(mark), "w"),
        "copyfile": Bomb(shutil.copyfile, __file__, str(mark)),
        "pathlib": Bomb(Path.touch, mark),
        "torch.save": Bomb(torch.save, 1, str(mark)),
        "numpy.memmap": Bomb(np.memmap, str(mark), "uint8", "w+", 0, (1,)),
        "nlnet's own function": Bomb(write_status, mark, "DONE"),
        "a pickle in a pickle": Bomb(pickle.loads, pickle.dumps(shell)),
        "map": Bomb(list, Bomb(map, Path.touch, [mark])),
    }


def states(bomb: Bomb, good: dict[str, Any]) -> dict[str, Any]:
    """The places in a checkpoint where one may stand."""
    return {
        "among the weights": {**good, "model": {**good["model"], "head.weight": bomb}},
        "in the card": {**good, "card": {**good["card"], "classes": bomb}},
        "as the step": {**good, "step": bomb},
    }


def write_files(folder: Path, state: Any) -> Iterator[tuple[str, Path]]:
    """The same content in each container that a loader opens."""
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / "step_00000009.pt", state)
    yield "a checkpoint with its digest", folder / "step_00000009.pt"
    torch.save(state, folder / "plain.pt")
    yield "a file of torch.save", folder / "plain.pt"
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    yield "an old file of torch.save", folder / "old.pt"
    (folder / "pickle.pkl").write_bytes(pickle.dumps(state, protocol=2))
    yield "a pickle", folder / "pickle.pkl"


def quiet(work: Callable[[], Any]) -> str:
    """Runs it with its words kept back -> what came of it."""
    words = io.StringIO()
    with contextlib.redirect_stderr(words), contextlib.redirect_stdout(words):
        try:
            result = work()
        except NlnetError as error:
            return f"refused: {error}"
    return f"result {result}: {words.getvalue()[-300:]}"


def load_paths(home: Path, video: Path) -> dict[str, Callable[[Path], Any]]:
    """Every way in which a file comes into nlnet."""
    names = home / "names.txt"
    names.write_text("a\nb\nc\n")
    return {
        "load_checkpoint": load_checkpoint,
        "a run folder": lambda path: CheckpointFolder(path.parent, say=lambda text: None).newest(),
        "nlnet.load": nlnet.load,
        "nlnet predict": lambda path: cli.run("predict", [str(path), str(video)]),
        "nlnet test": lambda path: cli.run("test", [str(path), "data.root=x"]),
        "nlnet export": lambda path: cli.run("export", [str(path), "--format", "torch", "--to", str(home / "export")]),
        "nlnet convert": lambda path: cli.run(
            "convert", [str(path), "--to", str(home / "converted.pt"), "--classes", str(names)]
        ),
        "nlnet convert --to-format": lambda path: cli.run(
            "convert", [str(path), "--to", str(home / "out.pyth"), "--to-format", "slowfast"]
        ),
    }


def good_state() -> dict[str, Any]:
    """A checkpoint that every way in would take."""
    config = compose("train", [*SMALL, "data.root=videos"])
    model, _ = build_model(config.model, num_classes=3)
    card = {"config": plain(config), "classes": ["a", "b", "c"], "identity": "x"}
    return {"step": 9, "model": model.state_dict(), "card": card}


def few_tensors(state: dict[str, Any]) -> dict[str, Any]:
    """Of the weights two: what is refused is refused in front of them."""
    return {**state, "model": dict(list(state["model"].items())[:2])}


def refused(name: str, mark: Path, work: Callable[[], Any]) -> Case:
    seen = quiet(work)
    ok = not mark.exists()
    if mark.exists():
        shutil.rmtree(mark) if mark.is_dir() else mark.unlink()
    return name, ok and "result 0:" not in seen, seen


def training_paths(home: Path, mark: Path, payload: str, good: dict[str, Any], videos: Path) -> Iterator[Case]:
    """A run that would go on from such a file, and one that would start from its weights."""
    run = TinyRun(home / payload.replace(" ", "_") / "s0")
    save_checkpoint_at = run.folder / "checkpoints"
    save_checkpoint_at.mkdir(parents=True)
    state = states(bombs(mark)[payload], few_tensors(good))["among the weights"]
    save_checkpoint(save_checkpoint_at / "step_00000009.pt", state)
    codes = Processes(run, world=1, log=home / "resume.log").wait()  # it passes the file over, and starts anew
    yield f"{payload}, resuming a run", codes == [0] and not mark.exists(), f"exit {codes}"
    for container, path in write_files(home / "start" / payload.replace(" ", "_"), state):
        options = [*SMALL, f"data.root={videos}", f"runs={home}/runs", "name=start"]
        options += ["init=checkpoint", f"init.path={path}"]
        yield refused(f"{payload} in {container}, init.path", mark, partial(cli.run, "train", options))


def stored_views(home: Path, mark: Path, payload: str) -> Iterator[Case]:
    """Objects in the arrays of a test, and in those that the report reads."""
    bomb = bombs(mark)[payload]
    folder = home / "views" / payload.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"logits": np.zeros((2, 3, 3)), "labels": np.array([bomb, bomb]), "scored": np.ones(2, bool)}
    np.savez(folder / "views.npz", **arrays, shape=np.array([3, 1]), allow_pickle=True)  # type: ignore[arg-type]
    yield refused(
        f"{payload}, nlnet test --from-views", mark, lambda: cli.run("test", ["x", "--from-views", str(folder)])
    )
    evaluation = home / "report" / payload.replace(" ", "_") / "eval" / "1x1"
    evaluation.mkdir(parents=True, exist_ok=True)
    np.savez(evaluation / "predictions.npz", scores=np.zeros((2, 3)), labels=np.array([bomb, bomb]), scored=np.ones(2))
    found = RunFolder(evaluation.parents[1]).predictions("1x1")
    yield f"{payload}, predictions.npz of a report", found is None and not mark.exists(), str(found)


TARGETS: dict[str, Callable[[str], list[Any]]] = {
    "os.system": lambda mark: [f"touch '{mark}'"],
    "posix.system": lambda mark: [f"touch '{mark}'"],
    "subprocess.call": lambda mark: [["touch", mark]],
    "subprocess.Popen": lambda mark: [["touch", mark]],
    "builtins.eval": lambda mark: [f"open({mark!r}, 'w')"],
    "builtins.exec": lambda mark: [f"open({mark!r}, 'w')"],
    "builtins.open": lambda mark: [mark, "w"],
    "os.mkdir": lambda mark: [mark],
    "pathlib.Path.touch": lambda mark: [mark],
    "torch.save": lambda mark: [1, mark],
    "numpy.memmap": lambda mark: [mark, "uint8", "w+", 0, [1]],
    "shutil.copyfile": lambda mark: ["/etc/hostname", mark],
    "hydra.utils.instantiate": lambda mark: [{"_target_": "os.mkdir", "_args_": [mark]}],
    "hydra.utils.call": lambda mark: [{"_target_": "os.mkdir", "_args_": [mark]}],
    "nlnet.models.resnet.torch.save": lambda mark: [1, mark],
    "nlnet.data.decoders.os.mkdir": lambda mark: [mark],
    "nlnet.data.loader.signal.os.system": lambda mark: [f"touch '{mark}'"],
    "nlnet.status.write_status": lambda mark: [mark, "DONE"],
    "nlnet.config.runs.open_folder": lambda mark: [mark, {}],
    "nlnet.data.synthetic.prepare": lambda mark: [mark],
    "nlnet.engine.checkpoint.save_checkpoint": lambda mark: [mark, {}],
    "nlnet.cli.run": lambda mark: ["train", [f"runs={mark}"]],
}
PLACES = ("model", "model.stem", "model.non_local", "data.decoder", "data.views", "data.normalize", "data.annotations",
          "data.views.placement", "data.prepare")  # fmt: skip


def hostile_configs(mark: Path, good: dict[str, Any], places: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place in places:
        for target, arguments in TARGETS.items():
            config = OmegaConf.create(good["card"]["config"])
            node = {"_target_": target, "_args_": arguments(str(mark))}
            OmegaConf.update(config, place, node, merge=False, force_add=True)
            stored = OmegaConf.to_container(config)
            yield f"{place}._target_={target}", {**good, "card": {**good["card"], "config": stored}}


def run_all(home: Path, *, videos: Path, payloads: int = 12, places: int = 9) -> list[Case]:
    """``videos`` is a folder of classes."""
    home.mkdir(parents=True, exist_ok=True)
    mark = home / "it_went_off"
    good = good_state()
    video = next(videos.rglob("*.mp4"))
    cases = [control(mark, name) for name in list(bombs(mark))[:payloads]]
    paths = load_paths(home, video)
    for payload in list(bombs(mark))[:payloads]:
        for place, state in states(bombs(mark)[payload], few_tensors(good)).items():
            for container, file in write_files(home / "files", state):
                for way, load in paths.items():
                    name = f"{payload} {place} in {container}, {way}"
                    if way == "a run folder":
                        if container == "a checkpoint with its digest":
                            found = load(file)
                            cases.append((name, found is None and not mark.exists(), str(found)))
                        continue
                    cases.append(refused(name, mark, partial(load, file)))
        cases += stored_views(home, mark, payload)
    for payload in list(bombs(mark))[: max(1, payloads // 4)]:
        cases += training_paths(home, mark, payload, good, videos)
    for name, state in hostile_configs(mark, few_tensors(good), PLACES[:places]):
        path = home / "hostile.pt"
        save_checkpoint(path, state)
        others = ("nlnet predict", "nlnet test", "nlnet export", "nlnet convert --to-format")
        for way in ("nlnet.load", *(others if name.startswith(("model._", "data.decoder._")) else ())):
            seen = quiet(partial(paths[way], path))
            # What a test does not build, it need not refuse; but nothing may happen.
            cases.append((f"{name}, {way}", not mark.exists(), seen))
            if mark.exists():
                shutil.rmtree(mark) if mark.is_dir() else mark.unlink()
    return cases


def control(mark: Path, payload: str) -> Case:
    """The payload does go off where a pickle is simply loaded: else its silence would prove nothing."""
    data = pickle.dumps(bombs(mark)[payload])
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pickle.loads(data)
    marks = [mark] if mark.exists() else []
    for path in marks:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"{payload} goes off in an ordinary unpickler", bool(marks), json.dumps([str(path) for path in marks])
