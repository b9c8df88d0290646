"""Capabilities of this machine: usable cores, CUDA devices, and whether bfloat16 is fast.

`guard_amx` has to run before anything is imported that loads oneDNN (torch, OpenVINO).
"""

import ctypes
import math
import os
from functools import cache
from pathlib import Path

from simile.errors import InputError

_AMX_PALETTE_LEAF = 0x1D
_CPUINFO, _CGROUP = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup")
_THREADS = "SIMILE_THREADS"


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores that this process may use: by its affinity, its cgroup's quota and SIMILE_THREADS.

    Kubernetes reserves the cores that a container requests, but without a limit there is no quota, and a thread per
    core of the node would slow down every neighbour and itself: the variable tells the request.

    Raises:
        InputError: SIMILE_THREADS is no number of threads.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bounds = [cores, *([math.ceil(quota)] if (quota := _cgroup_quota(cgroup)) else [])]
    if threads := os.environ.get(_THREADS):
        if not (threads.isdecimal() and int(threads)):
            raise InputError(f"{_THREADS}: got {threads!r}, need a whole number of at least 1")
        bounds.append(int(threads))
    return max(1, min(bounds))


def bound_library_threads() -> None:
    """Bound the threads of OpenMP, BLAS and tokenizers by SIMILE_THREADS where it is set.

    They read these variables when they are loaded, and count all cores of the machine otherwise. Values that the user
    has set are kept.
    """
    if os.environ.get(_THREADS):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
            os.environ.setdefault(name, str(usable_cores()))


def bf16_pays(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether bfloat16 matrix products are faster than float32 on this processor.

    True with AMX, and with AVX512-BF16 on AMD. Intel processors without AMX have the instruction too, but slower than
    float32 (measured: 110-140 against 190 GFLOP/s on two Sapphire Rapids cores; docs/log.md).
    """
    vendor, flags, max_leaf = _processor(cpuinfo)
    has_amx = "amx_bf16" in flags and max_leaf >= _AMX_PALETTE_LEAF
    return has_amx or ("avx512_bf16" in flags and vendor == "AuthenticAMD")


def has_int8_products(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether this processor multiplies 8-bit integers exactly and fast: VNNI on x86, dot products on Arm.

    Without VNNI, ONNX Runtime adds pairs of products in 16 bits, which saturate: scores would be wrong.
    """
    _, flags, _ = _processor(cpuinfo)
    return not flags.isdisjoint({"avx512_vnni", "avx_vnni", "asimddp"})


def has_arm_bf16_products(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether this is an Arm processor that multiplies bfloat16 matrices."""
    _, flags, _ = _processor(cpuinfo)
    return {"asimd", "bf16"} <= flags


def num_cuda_devices() -> int:
    """Return the number of CUDA devices that the driver reports; 0 without a driver.

    ONNX Runtime's list of providers says only what the package was built with.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    is_ready = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if is_ready else 0


def guard_amx(cpuinfo: Path = _CPUINFO) -> None:
    """Stop oneDNN from using AMX where a hypervisor shows the feature but hides its tile table (CPUID leaf 0x1D).

    There oneDNN reads tile sizes of zero and crashes with an illegal instruction, whatever the precision. A value that
    the user has set is kept.
    """
    _, flags, max_leaf = _processor(cpuinfo)
    if "amx_tile" in flags and max_leaf < _AMX_PALETTE_LEAF:
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")


@cache
def _processor(cpuinfo: Path) -> tuple[str, frozenset[str], int]:
    """Return vendor, feature flags and the highest basic CPUID leaf from Linux; empty values elsewhere."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return "", frozenset(), 0
    fields: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    level = fields.get("cpuid level", "0")
    # Arm calls them features.
    flags = fields.get("flags") or fields.get("Features", "")
    return fields.get("vendor_id", ""), frozenset(flags.split()), int(level) if level.isdigit() else 0


def _cgroup_quota(cgroup: Path) -> float | None:
    """Return the CPU quota in cores from cgroup v2 or v1, or None without a quota."""
    version_2, version_1 = cgroup / "cpu.max", cgroup / "cpu"
    try:
        if version_2.is_file():
            quota, period = version_2.read_text().split()
        else:
            quota, period = ((version_1 / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None
