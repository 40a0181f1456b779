"""What a report of a problem needs: versions, devices, limits, and probes of what runs depend on.

Each check is a function of nothing -> findings; a finding says what is so and, where it is a problem, how to mend it.
"""

import importlib
import importlib.util
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import torch

import nlnet

GIB = 2**30
PACKAGES = ("torch", "torchvision", "av", "hydra-core", "omegaconf", "numpy", "matplotlib", "tensorboard")
OPTIONAL = ("decord", "decord2", "torchcodec", "submitit", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Finding:
    """One line. ``mend`` is empty where nothing is wrong; ``fatal`` when nlnet cannot work like this."""

    what: str
    found: str
    mend: str = ""
    fatal: bool = False


def versions() -> Iterator[Finding]:
    """The program, its interpreter and the packages that it uses."""
    yield Finding("nlnet", f"{nlnet.__version__} in {Path(nlnet.__file__).parent}")
    yield Finding("python", f"{sys.version.split()[0]} on {platform.platform()}")
    for package in PACKAGES:
        version = _version(package)
        yield Finding(package, version or "missing", "" if version else f"pip install {package}", fatal=not version)
    yield Finding("optional", ", ".join(f"{name} {_version(name) or '–'}" for name in OPTIONAL))
    if _version("decord") and _version("decord2"):
        mend = "both are called `decord` in Python: pip uninstall decord decord2, then install one of them"
        yield Finding("decord", "decord and decord2 are both installed", mend)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def devices() -> Iterator[Finding]:
    """GPUs and cores, and what they can do."""
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: trainer.precision=fp16"
        memory = f"{card.total_memory / GIB:.0f} GiB"
        yield Finding(f"GPU {index}", f"{card.name}, {memory}, sm_{card.major}{card.minor}, {bf16}")
    if torch.cuda.is_available():
        cudnn: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        # 3-D convolutions in half precision were several times slower before (pytorch issue 166122).
        slow = cudnn is not None and 91000 <= cudnn < 91500
        mend = "convolutions in half precision are slow in this cuDNN: upgrade nvidia-cudnn to 9.15 or newer"
        yield Finding("CUDA", f"{torch.version.cuda}, cuDNN {cudnn}", mend if slow else "")
    else:
        mend = "the driver does not see them: nvidia-smi tells more" if shutil.which("nvidia-smi") else ""
        yield Finding("GPU", "none that PyTorch can use; training works on CPUs, slowly", mend)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Without it PyTorch emulates bf16, many times slower than float32.
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    able = f"{torch.backends.cpu.get_cpu_capability()}, bf16 {'in hardware' if has_bf16 else 'emulated (slow)'}"
    yield Finding("CPU", f"{_cpu_name()}, {cores} cores for this process, {torch.get_num_threads()} threads, {able}")
    if (threads := os.environ.get("OMP_NUM_THREADS")) and threads.isdecimal() and int(threads) > cores:
        yield Finding("OMP_NUM_THREADS", threads, f"more threads than cores: set it to {cores} or unset it")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def limits() -> Iterator[Finding]:
    """Memory, shared memory, open files and disk."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield Finding("memory", f"{total / GIB:.1f} GiB")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared)
        mend = "workers hand their clips over in it: start the container with --shm-size=8g, or train with workers=0"
        enough = size.free >= GIB
        yield Finding("/dev/shm", f"{size.free / GIB:.1f} of {size.total / GIB:.1f} GiB free", "" if enough else mend)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    mend = "workers need many: ulimit -n 65536"
    yield Finding("open files", f"at most {files}", mend if 0 <= files < 1024 else "")
    free = shutil.disk_usage(Path()).free
    mend = "checkpoints go here: runs=/another/disk"
    yield Finding("disk", f"{free / GIB:.1f} GiB free in {Path.cwd()}", mend if free < 2 * GIB else "")


def decoders() -> Iterator[Finding]:
    """Encodes a small video with PyAV and reads it back with each decoder that is installed."""
    import av

    from nlnet.data.synthetic import write_video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.mp4"
        ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
        frames = torch.randint(0, 255, (16, 64, 64, 3), dtype=torch.uint8).numpy()
        try:
            write_video(str(path), frames)
        except Exception as error:  # whatever it is, it belongs into the report
            yield Finding("encode", f"{type(error).__name__}: {error}", "pip install --force-reinstall av", fatal=True)
            return
        yield _decoding("pyav", "av", path, f"libavcodec {ffmpeg}", fatal=True)
        yield _decoding("decord", "decord", path)
        yield _decoding("torchcodec", "torchcodec", path)


def _decoding(name: str, module: str, path: Path, detail: str = "", *, fatal: bool = False) -> Finding:
    title = f"decode ({name})"
    if importlib.util.find_spec(module) is None:
        return Finding(title, f"{module} is not installed")
    try:
        decoder = importlib.import_module(f"nlnet.data.decoders.{name}")
    except ModuleNotFoundError as error:
        return Finding(title, f"cannot be used: {error}")
    classes = [value for key, value in vars(decoder).items() if key.endswith("Decoder") and key != "Decoder"]
    start = time.perf_counter()
    try:
        with classes[0]().open(str(path)) as reader:
            shape = reader.frames([0, 7, 15]).shape
    except Exception as error:  # whatever it is, it belongs into the report
        mend = "" if not fatal else "pip install --force-reinstall av"
        return Finding(title, f"fails: {type(error).__name__}: {error}".splitlines()[0], mend, fatal)
    milliseconds = 1000 * (time.perf_counter() - start)
    note = ", ".join(part for part in (detail, f"{milliseconds:.0f} ms") if part)
    return Finding(title, f"works, {list(shape)} ({note})")


PROBE = """
import sys, torch, torch.distributed as dist
device = sys.argv[1]
backend = "nccl" if device == "cuda" else "gloo"
dist.init_process_group(backend)
rank = dist.get_rank()
if device == "cuda":
    torch.cuda.set_device(rank)
value = torch.full((1 << 20,), float(rank + 1), device=device)
dist.all_reduce(value)
assert bool((value == 3).all()), value[:4]
dist.destroy_process_group()
"""


def all_reduce() -> Iterator[Finding]:
    """Two processes add up a tensor, as each training step of several processes does; two GPUs too, where there are."""
    for device in ["cpu"] + (["cuda"] if torch.cuda.device_count() > 1 else []):
        title = f"all-reduce ({'NCCL, 2 GPUs' if device == 'cuda' else 'gloo, 2 processes'})"
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "probe.py"
            script.write_text(PROBE, encoding="utf-8")
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
            start = time.perf_counter()
            try:
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                command = [*launch, str(script), device]
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=120, env=environment, check=False
                )
            except subprocess.TimeoutExpired:
                mend = "the processes do not reach each other: GLOO_SOCKET_IFNAME=lo (NCCL_SOCKET_IFNAME) names a net"
                yield Finding(title, "no answer within 120 s", mend)
                continue
        if done.returncode:
            last = next((line for line in reversed(done.stderr.splitlines()) if "Error" in line), "exit code not 0")
            yield Finding(title, f"fails: {last.strip()[:160]}", "several processes will not work; one will")
        else:
            yield Finding(title, f"works ({time.perf_counter() - start:.0f} s with the start of the processes)")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (versions, devices, limits, decoders, all_reduce)


def examine() -> Iterator[Finding]:
    """All findings, as they come."""
    for check in CHECKS:
        yield from check()


def as_json(findings: list[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)
