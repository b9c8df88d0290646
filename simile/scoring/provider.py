"""Where and how precisely a graph runs: the ONNX Runtime provider and the precision, asked for, found and asserted."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from simile.errors import InputError
from simile.hardware import bf16_pays, guard_amx, num_cuda_devices, usable_cores

guard_amx()

import onnxruntime  # noqa: E402 - the guard has to come first

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

_CUDA, _OPENVINO, _CPU = "CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider"

_MOST_AT_ONCE = 4
"""Batches run side by side on a CPU: threads that share one wait for each other at every operator, and so for whatever
else takes a core meanwhile. On many cores a lone text must still get more than one."""
_OPENVINO_CORES = 2
"""Of a batch, at least. In bf16 a lone pair is ready a quarter sooner than with a batch a core, and a full queue no
later (docs/log.md)."""
_OPENVINO_CACHE = 1000
"""Entries, several for each shape of batch. A service sees new shapes for hours: with OpenVINO's own 5,000 it grows by
a GiB."""

TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 5e-3}
"""How far a score may be from the fp32 score of another provider: bf16 keeps 8 bits of mantissa, fp16 keeps 11."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way to run a graph."""

    provider: str
    """ONNX Runtime's name of the execution provider."""
    precision: Literal["fp32", "bf16", "fp16"]

    def __str__(self) -> str:
        return f"{self.provider.removesuffix('ExecutionProvider')} {self.precision}"

    @property
    def batches_at_once(self) -> int:
        """How many threads may run a batch each on one session, and use the machine best so."""
        if self.provider == _CUDA:
            return 1
        cores = _OPENVINO_CORES if self.provider == _OPENVINO else 1
        return min(max(1, usable_cores() // cores), _MOST_AT_ONCE)


def choose_runtime(
    device: Device = "auto", precision: Precision = "auto", *, evaluated: Collection[Runtime] = ()
) -> Runtime:
    """Return the fastest runtime this machine has that fits what was asked for.

    Args:
        device: ``auto`` takes CUDA where it is there.
        precision: ``auto`` takes fp16 on CUDA, bf16 on a processor where that pays, else fp32.
        evaluated: where not empty, ``auto`` picks only among these.

    Raises:
        InputError: what was demanded is not to be had here.
    """
    here = _runtimes_here()
    fitting = [
        runtime
        for runtime in here
        if device in ("auto", "cuda" if runtime.provider == _CUDA else "cpu")
        and precision in ("auto", runtime.precision)
    ]
    if not fitting:
        have = ", ".join(map(str, here))
        raise InputError(f"got --device {device} --precision {precision}, this machine and environment have: {have}")
    if precision == "auto" or device == "auto":
        fitting = [runtime for runtime in fitting if runtime in evaluated] or fitting
    return fitting[0]


def _runtimes_here() -> list[Runtime]:
    """Return what this environment can run, fastest first."""
    available = onnxruntime.get_available_providers()
    runtimes = []
    if _CUDA in available and num_cuda_devices() > 0:
        runtimes += [Runtime(_CUDA, "fp16"), Runtime(_CUDA, "fp32")]
    on_cpu = [Runtime(_CPU, "fp32")]
    if _OPENVINO in available:
        on_cpu.insert(0 if bf16_pays() else 1, Runtime(_OPENVINO, "bf16"))
    return runtimes + on_cpu


def open_session(model: bytes, runtime: Runtime) -> "onnxruntime.InferenceSession":
    """Return a session that runs the whole graph on the runtime's provider; `Runtime.batches_at_once` may use it.

    Raises:
        InputError: the provider did not take the graph (ONNX Runtime would silently run it on the CPU instead).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, usable_cores() // runtime.batches_at_once)
    options.log_severity_level = 3
    if runtime.provider == _CUDA:
        # CUDA and cuDNN installed as wheels are found only when loaded by name.
        onnxruntime.preload_dlls()
    if runtime.provider != _CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=[runtime.provider], provider_options=[_provider_options(runtime)]
        )
        session.disable_fallback()
    # ONNX Runtime raises its own classes and bare RuntimeError alike, of no common root.
    except Exception as error:
        raise InputError(f"{runtime}: the graph cannot run there ({str(error).splitlines()[0][:200]})") from error
    if session.get_providers()[0] != runtime.provider:
        raise InputError(f"got {session.get_providers()[0]}, need {runtime.provider}: is its driver installed?")
    return session


def _provider_options(runtime: Runtime) -> dict[str, Any]:
    if runtime.provider == _OPENVINO:
        streams = runtime.batches_at_once
        config = {
            "INFERENCE_PRECISION_HINT": runtime.precision,
            "INFERENCE_NUM_THREADS": usable_cores(),
            "NUM_STREAMS": streams,
            "CPU_RUNTIME_CACHE_CAPACITY": _OPENVINO_CACHE,
        }
        # ONNX Runtime makes as many requests, and OpenVINO as many streams to run them.
        return {"device_type": "CPU", "num_streams": str(streams), "load_config": json.dumps({"CPU": config})}
    if runtime.provider == _CUDA:
        # The arena never shrinks; growing by what was asked for keeps it near what is used.
        return {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    return {}
