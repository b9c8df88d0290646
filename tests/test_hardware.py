import ctypes.util
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simile.errors import InputError
from simile.hardware import (
    bf16_pays,
    bound_library_threads,
    guard_amx,
    has_arm_bf16_products,
    has_int8_products,
    num_cuda_devices,
    usable_cores,
)

LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
AFFINITY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
ISA = "ONEDNN_MAX_CPU_ISA"


def cpuinfo(folder: Path, *, vendor: str = "GenuineIntel", flags: str = "", level: str = "31") -> Path:
    """Write a cpuinfo file of two cores, of which the second must not matter."""
    file = folder / "cpuinfo"
    first = f"processor\t: 0\nvendor_id\t: {vendor}\ncpuid level\t: {level}\nflags\t\t: fpu sse2 {flags}\n"
    second = "processor\t: 1\nvendor_id\t: Other\ncpuid level\t: 99\nflags\t\t: amx_bf16 amx_tile avx512_bf16\n"
    file.write_text(f"{first}\n{second}\n")
    return file


def quota_v2(folder: Path, text: str) -> Path:
    (folder / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (folder / "cpu.weight").write_text("79\n")
    (folder / "cpu.max").write_text(text)
    return folder


def quota_v1(folder: Path, quota: int) -> Path:
    """Lay the files out as Linux mounts them, where `cpu` is a link to the folder of both controllers."""
    (folder / "cpu,cpuacct").mkdir()
    (folder / "cpu").symlink_to("cpu,cpuacct")
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu" / "cpu.shares").write_text("2048\n")
    # systemd's hybrid layout: version 2 is there too, without controllers.
    (folder / "unified").mkdir()
    (folder / "unified" / "cgroup.controllers").write_text("\n")
    return folder


@pytest.mark.parametrize("cores", [0.1, 0.5, 1, 1.2, 1000])
def test_cores_are_bounded_by_the_quota_of_cgroup_v2(tmp_path, cores):
    folder = quota_v2(tmp_path, f"{round(cores * 100_000)} 100000\n")
    assert usable_cores(folder) == min(AFFINITY, math.ceil(cores))


@pytest.mark.parametrize("cores", [0.1, 1, 1.2, 1000])
def test_cores_are_bounded_by_the_quota_of_cgroup_v1(tmp_path, cores):
    assert usable_cores(quota_v1(tmp_path, round(cores * 100_000))) == min(AFFINITY, math.ceil(cores))


def test_without_a_quota_the_affinity_counts(tmp_path):
    assert usable_cores(tmp_path / "nothing") == AFFINITY
    assert usable_cores(quota_v2(tmp_path, "max 100000\n")) == AFFINITY


@pytest.mark.parametrize("text", ["", "nonsense", "x y", "1 2 3"])
def test_quota_that_cannot_be_read_is_none(tmp_path, text):
    assert usable_cores(quota_v2(tmp_path, text)) == AFFINITY


def test_quota_of_minus_one_is_none(tmp_path):
    assert usable_cores(quota_v1(tmp_path, -1)) == AFFINITY


@pytest.mark.parametrize("quota", ["max", "200000"])
@pytest.mark.parametrize(("threads", "expected"), [("1", 1), ("1000", None), ("", None)])
def test_threads_are_bounded_by_the_variable(tmp_path, monkeypatch, quota, threads, expected):
    monkeypatch.setenv("SIMILE_THREADS", threads)
    cores = min(AFFINITY, 2) if quota != "max" else AFFINITY
    assert usable_cores(quota_v2(tmp_path, f"{quota} 100000\n")) == (expected or cores)


@pytest.mark.parametrize("threads", ["0", "-1", "1.5", "two"])
def test_number_of_threads_that_is_none_is_refused(monkeypatch, threads):
    monkeypatch.setenv("SIMILE_THREADS", threads)
    with pytest.raises(InputError, match=f"SIMILE_THREADS: got '{threads}', need a whole number of at least 1"):
        usable_cores()


@pytest.fixture
def no_library_variables(monkeypatch):
    # After setenv and delenv, monkeypatch restores the old value, whatever the function does.
    for name in LIBRARIES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_library_variables")
def test_libraries_have_the_same_number_of_threads(monkeypatch):
    monkeypatch.delenv("SIMILE_THREADS", raising=False)
    bound_library_threads()
    assert not set(LIBRARIES) & set(os.environ)
    monkeypatch.setenv("SIMILE_THREADS", "1")
    monkeypatch.setenv("RAYON_NUM_THREADS", "3")
    bound_library_threads()
    assert [os.environ[name] for name in LIBRARIES] == ["1", "1", "3"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can bind a process to a core")
def test_process_bound_to_one_core_may_use_one():
    program = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from simile.hardware import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("vendor", "flags", "level", "expected"),
    [
        pytest.param("GenuineIntel", "avx2", "31", False, id="neither"),
        pytest.param("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", "31", True, id="AMX"),
        pytest.param("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", "29", True, id="AMX, its table just there"),
        pytest.param("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", "28", False, id="AMX, its table hidden"),
        pytest.param("GenuineIntel", "avx512_bf16", "31", False, id="Intel without AMX"),
        pytest.param("AuthenticAMD", "avx512_bf16", "16", True, id="AMD"),
        pytest.param("AuthenticAMD", "avx512f", "16", False, id="AMD without bf16"),
        pytest.param("GenuineIntel", "amx_bf16", "unknown", False, id="no level"),
    ],
)
def test_bf16_pays_where_the_processor_has_it(tmp_path, vendor, flags, level, expected):
    assert bf16_pays(cpuinfo(tmp_path, vendor=vendor, flags=flags, level=level)) is expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx512_vnni", True), ("avx2 avx_vnni", True), ("avx2 avx512f", False), ("", False)]
)
def test_int8_products_need_vnni(tmp_path, flags, expected):
    assert has_int8_products(cpuinfo(tmp_path, flags=flags)) is expected


def test_int8_products_need_dot_products_on_arm(tmp_path):
    (tmp_path / "with").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n\n")
    (tmp_path / "without").write_text("processor\t: 0\nFeatures\t: fp asimd\n\n")
    assert [has_int8_products(tmp_path / name) for name in ("with", "without")] == [True, False]


def test_bf16_products_on_arm_need_the_processors_feature(tmp_path):
    (tmp_path / "with").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp bf16\n\n")
    (tmp_path / "without").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n\n")
    assert [has_arm_bf16_products(tmp_path / name) for name in ("with", "without")] == [True, False]
    assert not has_arm_bf16_products(cpuinfo(tmp_path, flags="avx512_bf16 bf16"))


def test_bf16_does_not_pay_on_an_unknown_processor(tmp_path):
    assert not bf16_pays(tmp_path / "nothing")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux has this file")
def test_cpuinfo_of_this_machine_is_read():
    words = Path("/proc/cpuinfo").read_text().split()
    if "amx_bf16" not in words and "avx512_bf16" not in words:
        assert not bf16_pays()
    if "AuthenticAMD" in words:
        assert bf16_pays() == ("avx512_bf16" in words)


@pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="there is a driver")
def test_without_a_driver_there_is_no_cuda_device():
    assert num_cuda_devices() == 0


@pytest.mark.parametrize(
    ("flags", "level", "expected"),
    [("amx_tile", "28", "AVX512_CORE_FP16"), ("amx_tile", "29", None), ("avx512f", "28", None)],
)
def test_amx_is_kept_off_only_where_its_table_is_hidden(tmp_path, monkeypatch, flags, level, expected):
    # After setenv and delenv, monkeypatch restores the old value, whatever the guard does.
    monkeypatch.setenv(ISA, "")
    monkeypatch.delenv(ISA)
    guard_amx(cpuinfo(tmp_path, flags=flags, level=level))
    assert os.environ.get(ISA) == expected


def test_value_that_the_user_has_set_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv(ISA, "AVX2")
    guard_amx(cpuinfo(tmp_path, flags="amx_tile", level="28"))
    assert os.environ[ISA] == "AVX2"
