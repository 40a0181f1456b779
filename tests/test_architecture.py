"""The house rules of the source tree: imports go one way, Hydra stays at the door, files stay small and well named."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# Who may import whom: a room may import those of the rows below its own. Rooms of one row are siblings and do not
# import each other; within itself a room is free.
LAYERS = [
    ["tools", "nlnet.__main__"],
    ["nlnet.cli"],
    ["nlnet.benchmark"],
    ["nlnet.config"],
    ["nlnet.engine", "nlnet.report", "nlnet.export", "nlnet.doctor"],
    ["nlnet.study"],
    [
        "nlnet.models",
        "nlnet.weights",
        "nlnet.data",
        "nlnet.optim",
        "nlnet.metrics",
        "nlnet.loggers",
        "nlnet.launch",
        "nlnet.status",
    ],
    ["nlnet.ops", "nlnet.distributed", "nlnet.errors"],
    ["nlnet"],  # the package itself: its version
]
# Inflation is where both models and foreign weights reach it.
EXCEPTIONS = {("nlnet.weights", "nlnet.models.inflate")}
ROW = {room: row for row, rooms in enumerate(LAYERS) for room in rooms}


class Import(NamedTuple):
    """``importer`` (a module) names ``imported`` (a module) in this line."""

    importer: str
    imported: str
    line: int


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """nlnet/data/decoders/__init__.py -> nlnet.data.decoders."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path) -> Iterator[Import]:
    """All modules that a file imports, inside functions, classes and type-checking blocks too."""
    importer = module_name(path)
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"  # a module, or a name in one
                yield Import(importer, inner if base.startswith("nlnet") and exists(inner) else base, node.lineno)
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield Import(importer, str(node.args[0].value), node.lineno)


def room(module: str) -> str:
    """nlnet.data.decoders.pyav -> nlnet.data; tools.train -> tools."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "nlnet" else parts[0]


def allowed(importer: str, imported: str) -> bool:
    ours, theirs = room(importer), room(imported)
    return ours == theirs or ROW[ours] < ROW[theirs] or (ours, imported) in EXCEPTIONS


ALL_IMPORTS = [found for path in sources("nlnet", "tools") for found in imports(path)]
OWN_IMPORTS = [found for found in ALL_IMPORTS if found.imported.split(".")[0] in ("nlnet", "tools")]


def shown(found: list[Import]) -> str:
    return "\n".join(f"{each.importer}, line {each.line}: imports {each.imported}" for each in found)


def test_every_module_has_a_row() -> None:
    unknown = {room(module_name(path)) for path in sources("nlnet", "tools")} - set(ROW)
    assert not unknown, f"say in LAYERS where {', '.join(sorted(unknown))} belong"


def test_imports_go_one_way() -> None:
    assert len(OWN_IMPORTS) > 50
    wrong = [found for found in OWN_IMPORTS if not allowed(found.importer, found.imported)]
    assert not wrong, shown(wrong)


@pytest.mark.parametrize(
    ("importer", "imported", "right"),
    [
        ("tools.train", "nlnet.cli", True),
        ("nlnet.engine.trainer", "nlnet.metrics", True),
        ("nlnet.weights.torchvision", "nlnet.models.inflate", True),
        ("nlnet.data.clips", "nlnet.data.decoders.pyav", True),
        ("nlnet.weights.torchvision", "nlnet.models.resnet", False),
        ("nlnet.models.resnet", "nlnet.weights.transfer", False),
        ("nlnet.engine.trainer", "nlnet.report.page", False),
        ("nlnet.engine.trainer", "nlnet.config.compose", False),
        ("nlnet.ops.attention", "nlnet.errors", False),
        ("nlnet.cli.train", "tools.train", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, right: bool) -> None:
    assert allowed(importer, imported) == right


def test_imports_are_found_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "nlnet" / "data").mkdir(parents=True)
    (tmp_path / "nlnet" / "data" / "clips.py").touch()
    path = tmp_path / "nlnet" / "models.py"
    path.write_text(
        "def f():\n    from nlnet.data import clips\n    import hydra.utils as u\nclass C:\n    from . import data\n"
        "from .data.clips import Clip\nimport_module('nlnet.engine')\n"
    )
    assert {found.imported for found in imports(path)} == {
        "nlnet.data.clips",
        "hydra.utils",
        "nlnet.data",
        "nlnet.engine",
    }


def test_only_config_knows_hydra() -> None:
    """``engine`` and all below never see a config; the command line prints one."""
    wrong = [
        found
        for found in ALL_IMPORTS
        for library in (found.imported.split(".")[0],)
        if (library == "hydra" and room(found.importer) != "nlnet.config")
        or (library == "omegaconf" and room(found.importer) not in ("nlnet.config", "nlnet.cli"))
    ]
    assert not wrong, shown(wrong)


def test_the_lowest_layer_knows_torch_and_the_standard_library_alone() -> None:
    wrong = [
        found
        for found in ALL_IMPORTS
        if ROW[room(found.importer)] >= ROW["nlnet.ops"]
        and found.imported.split(".")[0] not in {"torch", "nlnet", *sys.stdlib_module_names}
    ]
    assert not wrong, shown(wrong)


def test_importing_nlnet_does_not_import_torch() -> None:
    code = "import sys, nlnet; nlnet.__version__; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0


def test_public_names_can_be_imported() -> None:
    import nlnet

    for name in nlnet.__all__:
        assert getattr(nlnet, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        nlnet.Nonsense  # noqa: B018


def test_tools_are_thin() -> None:
    tools = sources("tools")
    assert tools
    for path in tools:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 30, path.name


def test_no_file_is_two_ideas() -> None:
    long = {module_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources("nlnet")}
    assert not {name: lines for name, lines in long.items() if lines > 400}


def test_names_say_what() -> None:
    """Nothing is called utils, helper, misc, common or core: no file, no folder, no function, no class."""
    empty = re.compile(r"(^|_)(utils?|helpers?|misc|common|core)(_|$)", re.IGNORECASE)
    wrong = []
    for path in sources("nlnet", "tools", "tests", "datasets"):
        names = list(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.append(node.name)
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in names if empty.search(name)]
    for path in (ROOT / "configs").rglob("*"):
        wrong += [str(path.relative_to(ROOT))] if empty.search(path.stem) else []
    assert not wrong, "\n".join(wrong)


def test_datasets_are_knowledge_not_code() -> None:
    """Recipes there are run, never imported: deleting the folder breaks no training."""
    assert not list((ROOT / "datasets").rglob("__init__.py"))
    everywhere = [found for path in sources("nlnet", "tools", "tests", "datasets") for found in imports(path)]
    assert not [found for found in everywhere if found.imported.split(".")[0] == "datasets"]


def committed_files() -> list[Path]:
    """The files of the repository, those about to be added too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_text_names_a_place_on_somebodys_machine() -> None:
    # Homes and scratch folders; in pieces, so that this file does not find itself.
    places = "|".join(["work", "home", "root", "Users", "tmp", "mnt", "scratch"])
    absolute = re.compile(rf"(?<![\w.~/$}}])/(?:{places})/[\w.-]+")
    assert absolute.search("root=" + "/home" + "/me/videos")
    assert not absolute.search("https://a.org" + "/home" + "/page")
    wrong = []
    for path in committed_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or a video
        for number, line in enumerate(text.splitlines(), start=1):
            if match := absolute.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not wrong, "\n".join(wrong)
