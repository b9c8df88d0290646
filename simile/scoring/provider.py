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
_FEW_TOKENS = 128
"""So many, and no others beside them, are ready a third sooner where OpenVINO gives one batch of them all cores; where
there are more, each core can as well have a batch of its own (docs/log.md)."""
_OPENVINO_CACHE = 200
"""Entries of each batch run side by side, several for each shape. A service sees new shapes for hours: with OpenVINO's
own 5,000 it grows by a GiB."""

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
        return min(usable_cores(), _MOST_AT_ONCE)

    @property
    def few_tokens(self) -> int:
        """A batch of so many padded tokens at most had better have all cores than a part of them; 0: none had."""
        return _FEW_TOKENS if self.provider == _OPENVINO and self.batches_at_once > 1 else 0


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


def open_session(model: bytes, runtime: Runtime, at_once: int | None = None) -> "onnxruntime.InferenceSession":
    """Return a session that runs the whole graph on the runtime's provider.

    Args:
        model: the ONNX file.
        runtime: what runs it.
        at_once: how many batches; `Runtime.batches_at_once` unless said. All cores are shared out among them.

    Raises:
        InputError: the provider did not take the graph (ONNX Runtime would silently run it on the CPU instead).
    """
    at_once = at_once or runtime.batches_at_once
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, usable_cores() // at_once)
    options.log_severity_level = 3
    if runtime.provider == _CUDA:
        # CUDA and cuDNN installed as wheels are found only when loaded by name.
        onnxruntime.preload_dlls()
    if runtime.provider != _CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=[runtime.provider], provider_options=[_provider_options(runtime, at_once)]
        )
        session.disable_fallback()
    # ONNX Runtime raises its own classes and bare RuntimeError alike, of no common root.
    except Exception as error:
        raise InputError(f"{runtime}: the graph cannot run there ({str(error).splitlines()[0][:200]})") from error
    if session.get_providers()[0] != runtime.provider:
        raise InputError(f"got {session.get_providers()[0]}, need {runtime.provider}: is its driver installed?")
    return session


def _provider_options(runtime: Runtime, at_once: int) -> dict[str, Any]:
    if runtime.provider == _OPENVINO:
        config = {
            "INFERENCE_PRECISION_HINT": runtime.precision,
            "INFERENCE_NUM_THREADS": usable_cores(),
            "NUM_STREAMS": at_once,
            "CPU_RUNTIME_CACHE_CAPACITY": _OPENVINO_CACHE,
        }
        # ONNX Runtime makes as many requests, and OpenVINO as many streams to run them.
        return {"device_type": "CPU", "num_streams": str(at_once), "load_config": json.dumps({"CPU": config})}
    if runtime.provider == _CUDA:
        # The arena never shrinks; growing by what was asked for keeps it near what is used.
        return {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    return {}
