"""Description of the machine that timings are measured on."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from pathlib import Path
from typing import Literal

import torch

import ganmod


def describe_machine(device: torch.device) -> dict[str, str]:
    """Versions and hardware, to be stored with timings."""
    return {
        "ganmod": ganmod.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "bf16 instructions": ", ".join(bf16_instructions(device)) or "none",
    }


def cpu_name() -> str:
    """The processor's model, as the system names it."""
    for line in _cpuinfo():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def bf16_instructions(device: torch.device) -> list[str]:
    """Names of the processor's bfloat16 features; ["cuda"] for a GPU with bfloat16; [] without any."""
    if device.type == "cuda":
        return ["cuda"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    flags = {word for line in _cpuinfo() if line.startswith(("flags", "Features")) for word in line.split()}
    supported = sorted(flags & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "svebf16"})
    if not supported and _sysctl("hw.optional.arm.FEAT_BF16") == "1":
        supported = ["FEAT_BF16"]
    return supported


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this process in MiB: allocated on a GPU, else resident.

    NaN where the system does not report it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if (high := resident_mib("VmHWM")) is not None:
        return high
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)  # bytes there, KiB elsewhere


def resident_mib(key: Literal["VmRSS", "VmHWM"]) -> float | None:
    """Resident memory of this process in MiB, current (VmRSS) or peak (VmHWM); None without Linux's /proc.

    getrusage is not used here: a process inherits the peak of the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), None)


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


def _sysctl(key: str) -> str:
    """A value of macOS's sysctl; empty elsewhere."""
    if platform.system() != "Darwin":
        return ""
    done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False)
    return done.stdout.strip()
