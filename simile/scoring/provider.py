"""The runtime of a graph: which ONNX Runtime provider and precision to use, and sessions that really use them."""

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from simile.errors import InputError
from simile.hardware import (
    bf16_pays,
    guard_amx,
    has_arm_bf16_products,
    has_int8_products,
    num_cuda_devices,
    usable_cores,
)
from simile.scoring.graph_check import require_plain_graph

guard_amx()

import onnxruntime  # noqa: E402 - the guard has to run before

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

_CUDA, _OPENVINO, _CPU = "CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider"

_MAX_BATCHES_AT_ONCE = 4
"""Maximum number of concurrent batches on a CPU. Threads that share a batch wait for each other at every operator, so
one batch per core is fastest; but on many cores, a single text must get more than one of them."""
_FEW_TOKENS = 128
"""Padded tokens up to which OpenVINO computes a batch that runs alone a third faster with all cores (docs/log.md)."""
_OPENVINO_CACHE = 200
"""Entries of the runtime cache per concurrent batch, several per input shape. A service sees new shapes for hours: with
OpenVINO's default of 5,000, its memory grows by a GiB."""

TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 5e-3, "int8": 5e-2}
"""Maximum difference of a score from the fp32 score of another provider: bf16 has 8 bits of mantissa, fp16 has 11, and
each activation in int8 has 8 bits for all values of its row."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A provider and a precision in which to run a graph."""

    provider: str
    """The execution provider by its name in ONNX Runtime."""
    precision: Literal["fp32", "bf16", "fp16", "int8"]

    def __str__(self) -> str:
        return f"{self.provider.removesuffix('ExecutionProvider')} {self.precision}"

    @property
    def batches_at_once(self) -> int:
        """Number of concurrent batches, each in its own thread, that makes best use of the machine."""
        return 1 if self.provider == _CUDA else min(usable_cores(), _MAX_BATCHES_AT_ONCE)

    @property
    def few_tokens(self) -> int:
        """Padded tokens up to which a batch that runs alone gets all cores; 0 if no batch does."""
        return _FEW_TOKENS if self.provider == _OPENVINO and self.batches_at_once > 1 else 0


def choose_runtime(
    device: Device = "auto", precision: Precision = "auto", *, evaluated: Collection[Runtime] = ()
) -> Runtime:
    """Return the fastest runtime that fits the request, or raise an `InputError` where this machine has none.

    Args:
        device: ``auto`` takes CUDA if there is a device.
        precision: ``auto`` takes fp16 on CUDA, bf16 on x86 processors where it is faster, else fp32.
        evaluated: runtimes among which ``auto`` chooses, if this machine has one of them. It takes int8 from here only.
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
        raise InputError(f"got --device {device} --precision {precision}; this machine and environment have: {have}")
    if precision == "auto" or device == "auto":
        fitting = [runtime for runtime in fitting if runtime in evaluated] or fitting
    if precision == "auto":
        fitting = [runtime for runtime in fitting if runtime.precision != "int8" or runtime in evaluated]
    return fitting[0]


def _runtimes_here() -> list[Runtime]:
    """Return the runtimes that this environment has, fastest first."""
    available = onnxruntime.get_available_providers()
    runtimes = [Runtime(_CPU, "fp32")]
    if has_int8_products():
        runtimes.insert(0, Runtime(_CPU, "int8"))
    if _OPENVINO in available:
        runtimes.insert(0 if bf16_pays() else len(runtimes), Runtime(_OPENVINO, "bf16"))
    if has_arm_bf16_products():
        # Not measured yet, so it comes after fp32.
        runtimes.append(Runtime(_CPU, "bf16"))
    if _CUDA in available and num_cuda_devices() > 0:
        runtimes = [Runtime(_CUDA, "fp16"), Runtime(_CUDA, "fp32"), *runtimes]
    return runtimes


def open_session(model: bytes, runtime: Runtime, at_once: int | None = None) -> "onnxruntime.InferenceSession":
    """Return a session that runs the whole ONNX file on the runtime's provider.

    ``at_once`` concurrent batches share all cores; by default `Runtime.batches_at_once`.

    Raises:
        InputError: the provider cannot run the graph (ONNX Runtime would silently run it on the CPU instead), the graph
            could do more than compute, or it is not one from token ids and mask to embeddings.
    """
    require_plain_graph(model)
    at_once = at_once or runtime.batches_at_once
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, usable_cores() // at_once)
    # Errors are not logged either, because they are raised.
    options.log_severity_level = 4
    # Otherwise the first bytes decide, and ONNX Runtime's own format, which was not checked, could be read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if runtime == Runtime(_CPU, "bf16"):
        options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
    if runtime.provider == _CUDA:
        # CUDA and cuDNN from wheels are on no library path, so they have to be loaded by name.
        onnxruntime.preload_dlls()
    if runtime.provider != _CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    create = partial(
        onnxruntime.InferenceSession,
        model,
        options,
        providers=[runtime.provider],
        provider_options=[_provider_options(runtime, at_once)],
    )
    try:
        # On processors with AMX, OpenVINO gives the thread that loads its plugin a signal stack, and unmaps that stack
        # when the last session goes, in whatever thread: the next signal, such as Ctrl-C, would end the process. The
        # thread that creates the session has therefore ended by then.
        with ThreadPoolExecutor(1) as thread:
            session = thread.submit(create).result()
        session.disable_fallback()
    # ONNX Runtime raises its own classes as well as RuntimeError.
    except Exception as error:
        raise InputError(f"{runtime}: cannot run the graph ({str(error).splitlines()[0][:200]})") from error
    if session.get_providers()[0] != runtime.provider:
        raise InputError(f"got {session.get_providers()[0]}, need {runtime.provider}: is its driver installed?")
    inputs, outputs = (
        sorted(value.name for value in values) for values in (session.get_inputs(), session.get_outputs())
    )
    if inputs != ["attention_mask", "input_ids"] or len(outputs) != 1:
        got = f"got a graph from {', '.join(inputs)[:100]} to {len(outputs)} outputs"
        raise InputError(f"{got}, need one from attention_mask, input_ids to one output")
    return session


def _provider_options(runtime: Runtime, at_once: int) -> dict[str, Any]:
    if runtime.provider == _OPENVINO:
        config = {
            "INFERENCE_PRECISION_HINT": runtime.precision,
            "INFERENCE_NUM_THREADS": usable_cores(),
            "NUM_STREAMS": at_once,
            "CPU_RUNTIME_CACHE_CAPACITY": _OPENVINO_CACHE,
        }
        # The outer value is the number of ONNX Runtime's requests, the inner one of OpenVINO's streams that run them.
        return {"device_type": "CPU", "num_streams": str(at_once), "load_config": json.dumps({"CPU": config})}
    if runtime.provider == _CUDA:
        # The arena never shrinks, so it must not grow beyond what is requested.
        return {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    return {}
