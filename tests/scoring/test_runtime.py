from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import onnxruntime
import pytest

import simile
from simile.artifacts import EVALUATION, StoredEvaluations
from simile.errors import BundleError, InputError
from simile.hardware import bf16_pays, has_int8_products, num_cuda_devices
from simile.scoring import (
    GOLDEN_PAIRS,
    Runtime,
    Scorer,
    choose_runtime,
    evaluated_runtimes,
    golden_pairs,
    load,
    require_finite,
)
from simile.scoring.provider import TOLERANCE
from tests.evaluation_reports import evaluation_report
from tests.tiny_ensembles import graph, table

AVAILABLE = onnxruntime.get_available_providers()
CAN_BF16 = "OpenVINOExecutionProvider" in AVAILABLE
FP32 = Runtime("CPUExecutionProvider", "fp32")
BF16, FP16 = Runtime("OpenVINOExecutionProvider", "bf16"), Runtime("CUDAExecutionProvider", "fp16")
INT8 = Runtime("CPUExecutionProvider", "int8")

needs_bf16 = pytest.mark.skipif(not CAN_BF16, reason="bf16 needs OpenVINO")
needs_int8 = pytest.mark.skipif(not has_int8_products(), reason="int8 needs VNNI, or dot products on Arm")
needs_no_gpu = pytest.mark.skipif(FP16.provider in AVAILABLE and num_cuda_devices() > 0, reason="CUDA is there")


def remember(bundle, *runtimes: Runtime, digest: str | None = None, verdicts: Sequence[str | None] = ()) -> None:
    """Write an evaluation under these runtimes into the bundle."""
    digest = digest or bundle.manifest.digest
    reports = [
        evaluation_report(
            bundle={"digest": digest, "provider": runtime.provider, "precision": runtime.precision}, verdict=verdict
        )
        for runtime, verdict in zip_longest(runtimes, verdicts)
    ]
    (bundle.path / EVALUATION).write_text(StoredEvaluations(reports=reports).model_dump_json())


@needs_no_gpu
@pytest.mark.parametrize(
    ("device", "precision"), [("cuda", "auto"), ("cuda", "fp16"), ("auto", "fp16"), ("cpu", "fp16"), ("cuda", "bf16")]
)
def test_runtime_that_this_machine_lacks_is_refused_and_the_others_are_named(device, precision):
    with pytest.raises(InputError) as caught:
        choose_runtime(device, precision)
    assert str(caught.value).startswith(f"got --device {device} --precision {precision}; this machine ")
    assert str(FP32) in str(caught.value)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_fp32_is_always_available_on_the_cpu(device):
    assert choose_runtime("cpu", "fp32") == FP32
    assert choose_runtime(device, "fp32").precision == "fp32"


def test_auto_takes_bf16_only_where_it_pays():
    chosen = choose_runtime("cpu")
    assert chosen == (BF16 if bf16_pays() and CAN_BF16 else FP32)


@needs_bf16
def test_bf16_is_chosen_if_it_is_asked_for():
    assert choose_runtime("cpu", "bf16") == BF16


@needs_bf16
@pytest.mark.parametrize("runtime", [FP32, BF16], ids=str)
def test_auto_picks_what_the_bundle_was_evaluated_with(runtime):
    assert choose_runtime("cpu", evaluated=[runtime]) == runtime


def test_bf16_on_arm_is_chosen_only_if_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("simile.scoring.provider.has_arm_bf16_products", lambda: True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    arm = Runtime("CPUExecutionProvider", "bf16")
    assert choose_runtime("cpu") == FP32
    assert choose_runtime("cpu", "bf16") == arm


def test_bf16_on_arm_runs_the_graph_in_fp32(ensemble):
    bundle = ensemble.write(replace={"members/small/model.fp16.onnx": graph(table(seed=1))})
    pairs = [("The water was cold.", "A cold drink of water.")]
    arm = load(bundle.path, runtime=Runtime("CPUExecutionProvider", "bf16"))
    assert arm.score(pairs) == pytest.approx(load(bundle.path, runtime=FP32).score(pairs), abs=2e-2)


@needs_int8
def test_int8_is_chosen_only_if_it_is_asked_for_or_evaluated(monkeypatch):
    assert choose_runtime("cpu", "int8") == INT8
    monkeypatch.setattr("simile.scoring.provider.bf16_pays", lambda: False)
    assert choose_runtime("cpu") == choose_runtime("cpu", evaluated=[FP16]) == FP32
    assert choose_runtime("cpu", evaluated=[FP32, INT8]) == INT8


def test_int8_is_refused_where_the_processor_would_saturate(monkeypatch):
    monkeypatch.setattr("simile.scoring.provider.has_int8_products", lambda: False)
    with pytest.raises(InputError, match=r"--precision int8; this machine and environment have: .*CPU fp32"):
        choose_runtime("cpu", "int8")


@needs_int8
def test_load_takes_int8_only_after_the_gate_has_passed_in_int8(ensemble):
    graphs = {"members/small/model.int8.onnx": graph(table())}
    bundle = ensemble.write(replace=graphs)
    for verdicts, expected in (([None], []), (["fail"], []), (["pass", "fail"], []), (["fail", "pass", None], [INT8])):
        remember(bundle, *[INT8] * len(verdicts), verdicts=verdicts)
        assert evaluated_runtimes(bundle) == expected
    assert load(bundle.path, device="cpu").runtime == INT8


@needs_int8
def test_bundle_without_a_graph_in_int8_says_so(ensemble):
    with pytest.raises(BundleError, match="member small has no graph in int8, try --precision fp32"):
        load(ensemble.write().path, device="cpu", precision="int8")


@needs_int8
def test_int8_runs_its_own_graph(ensemble):
    bundle = ensemble.write(replace={"members/small/model.int8.onnx": graph(table(seed=1))})
    with pytest.raises(BundleError, match="golden pairs differ by"):
        load(bundle.path, device="cpu", precision="int8")


@needs_no_gpu
def test_evaluation_on_hardware_that_this_machine_lacks_is_ignored():
    assert choose_runtime(evaluated=[FP16]) == choose_runtime()


@needs_bf16
def test_explicit_precision_overrides_the_evaluated_runtimes():
    assert choose_runtime("cpu", "fp32", evaluated=[BF16]) == FP32
    assert choose_runtime("auto", "fp32", evaluated=[BF16]).precision == "fp32"


@pytest.mark.parametrize(
    ("runtime", "cores", "batches"),
    [(FP32, 1, 1), (FP32, 2, 2), (FP32, 16, 4), (BF16, 1, 1), (BF16, 2, 2), (BF16, 16, 4), (FP16, 16, 1)],
    ids=str,
)
def test_batches_at_once_by_cores(runtime, cores, batches, monkeypatch):
    monkeypatch.setattr("simile.scoring.provider.usable_cores", lambda: cores)
    assert runtime.batches_at_once == batches


@pytest.mark.parametrize(("runtime", "cores", "has_few"), [(FP32, 2, 0), (BF16, 1, 0), (BF16, 2, 1), (FP16, 16, 0)])
def test_small_batches_get_all_cores_where_openvino_has_several(runtime, cores, has_few, monkeypatch):
    monkeypatch.setattr("simile.scoring.provider.usable_cores", lambda: cores)
    assert bool(runtime.few_tokens) == bool(has_few)


def test_runtime_is_shown_without_the_long_word():
    assert str(FP16) == "CUDA fp16"


def test_load_picks_what_the_bundle_was_evaluated_with(ensemble):
    bundle = ensemble.write()
    before = load(bundle.path, device="cpu").runtime
    other = FP32 if before == BF16 else BF16
    if CAN_BF16:
        remember(bundle, other)
        assert load(bundle.path, device="cpu").runtime == other
    remember(bundle, FP32)
    assert load(bundle.path, device="cpu").runtime == FP32


def test_evaluation_of_another_bundle_is_ignored(ensemble):
    bundle = ensemble.write()
    remember(bundle, BF16, digest="0" * 64)
    assert evaluated_runtimes(bundle) == []


def test_every_evaluation_of_the_bundle_counts(ensemble):
    bundle = ensemble.write()
    assert evaluated_runtimes(bundle) == []
    remember(bundle, FP16, FP32, FP16)
    assert evaluated_runtimes(bundle) == [FP16, FP32]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"reports": [{}]}', '{"reports": null}', '{"reports": [1]}'])
def test_invalid_evaluation_is_refused(ensemble, content):
    bundle = ensemble.write()
    (bundle.path / EVALUATION).write_text(content)
    with pytest.raises(BundleError, match="no valid evaluation"):
        load(bundle.path)


def test_simile_load_scores(bundle, scorer):
    score_P = simile.load(str(bundle.path), device="cpu", precision="fp32").score(GOLDEN_PAIRS)
    np.testing.assert_allclose(score_P, scorer.score(GOLDEN_PAIRS), rtol=0, atol=1e-4)


def test_scorer_releases_the_bytes_of_its_files(bundle, scorer):
    assert bundle.data
    assert not scorer.bundle.data
    assert scorer.bundle.identity == bundle.identity


def test_unknown_attribute_of_simile_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        simile.lode  # noqa: B018


def test_golden_pairs_are_reproduced_in_fp32(bundle):
    assert Scorer(bundle, FP32).check_golden() <= TOLERANCE["fp32"]


@needs_bf16
def test_golden_pairs_are_reproduced_in_bf16(ensemble):
    bundle = ensemble.write()
    assert Scorer(bundle, BF16).check_golden() <= TOLERANCE["bf16"]


def test_golden_pairs_are_the_projects_own_with_each_members_score(bundle, scorer):
    golden = golden_pairs(scorer)
    scored = scorer.score_members(GOLDEN_PAIRS)
    assert tuple((pair.text_a, pair.text_b) for pair in golden) == GOLDEN_PAIRS
    for name, score_P in scored.members.items():
        assert [pair.scores[name] for pair in golden] == [float(score) for score in score_P]
    assert bundle.manifest.golden == golden


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("name", ["small", "words"])
def test_changed_golden_score_is_refused(bundle, scorer, place, name):
    golden = list(bundle.manifest.golden)
    changed = golden[place].scores | {name: golden[place].scores[name] + 2e-4}
    golden[place] = golden[place].model_copy(update={"scores": changed})
    manifest = bundle.manifest.model_copy(update={"golden": tuple(golden)})
    with pytest.raises(BundleError, match=r"golden pairs differ by 2\.0e-04 on CPU fp32, need 1e-04"):
        Scorer(type(bundle)(bundle.path, manifest, bundle.data), FP32).check_golden()


def test_other_weights_under_the_same_golden_scores_are_refused(ensemble, bundle):
    other = ensemble.write(seed=5, with_golden=False)
    manifest = other.manifest.model_copy(update={"golden": bundle.manifest.golden})
    with pytest.raises(BundleError, match="golden pairs differ by"):
        Scorer(type(other)(other.path, manifest, other.data), FP32).check_golden()


def test_golden_score_that_is_no_number_is_refused_wherever_it_stands(ensemble, bundle):
    # An overflow in fp16 gives NaN; the word is in one pair only.
    assert [i for i, pair in enumerate(GOLDEN_PAIRS) if "spite" in " ".join(pair)] == [len(GOLDEN_PAIRS) - 1]
    other = ensemble.write(poisoned="spite", with_golden=False)
    manifest = other.manifest.model_copy(update={"golden": bundle.manifest.golden})
    with pytest.raises(BundleError, match="golden pairs differ by nan"):
        Scorer(type(other)(other.path, manifest, other.data), FP32).check_golden()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_score_that_is_not_finite_is_refused(bad):
    with pytest.raises(InputError, match="CUDA fp16: 2 scores are not finite, try --precision fp32"):
        require_finite(np.array([0.5, bad, bad], dtype=np.float32), FP16)


def test_finite_scores_pass():
    require_finite(np.array([0.5, -1.0], dtype=np.float32), FP16)
    require_finite(np.array([], dtype=np.float32), FP16)
