"""The model card, ``README.md`` in a bundle: what manifest and evaluations state, for people and Hugging Face's hub."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from simile.artifacts.bundle import EncoderMember, IsotonicCalibration, Manifest, Member
from simile.artifacts.evaluation_report import BundleReport, SetEvaluation
from simile.artifacts.provenance import BaselineProvenance, trained_on
from simile.flat import flat

_TASK = "sentence-similarity"
_COLUMNS = ("set", "pairs", "baseline", "Simile", "difference", "95 % interval", "AUC", "separability", "TF-IDF alone")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def model_card(manifest: Manifest, reports: Sequence[BundleReport] = ()) -> str:
    """Return the card: YAML for the hub, then Markdown; the latest of the evaluation reports is the last.

    Those with a verdict of the gate come first in the card, and give the hub's figures.
    """
    reports = sorted(reports, key=lambda report: report.verdict is not None)
    head = yaml.safe_dump(_for_the_hub(manifest, reports), sort_keys=False, allow_unicode=True)
    sections = [f"---\n{head}---", f"# {_plain(manifest.name)}", _what(manifest), _use(manifest.name)]
    sections += map(_evaluation, reversed(reports))
    sections += [_members(manifest), _decisions(manifest), _made(manifest)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _for_the_hub(manifest: Manifest, reports: Sequence[BundleReport]) -> dict[str, Any]:
    """Return the hub's metadata: how to load the bundle, its base models, and the figures of the latest evaluation."""
    bases = {member.base for member in manifest.members if isinstance(member, EncoderMember)}
    known: dict[str, Any] = {"library_name": "simile", "pipeline_tag": _TASK, "tags": ["simile", "onnx", _TASK]}
    # The hub would take a folder's name for a model.
    if on_hub := sorted(base for base in bases if _HUB_NAME.fullmatch(base)):
        known["base_model"] = on_hub
    if reports:
        results = [
            {
                "task": {"type": _TASK},
                "dataset": {"name": name, "type": "text-pairs"},
                "metrics": [{"type": "spearmanr", "name": "Spearman", "value": round(entry.bundle.spearman, 4)}],
            }
            for name, entry in reports[-1].all_sets.items()
            if entry.bundle.spearman is not None
        ]
        known["model-index"] = [{"name": manifest.name, "results": results}]
    return known


def _what(manifest: Manifest) -> str:
    num = len(manifest.members)
    score = "the cosine of their embeddings" if num == 1 else f"the weighted mean of {num} members' cosines"
    return (
        f"This bundle of Simile scores how similar two texts are, from -1 to 1: {score}. It was made by "
        f"{_plain(manifest.made.by)} and holds ONNX graphs and tokenizers that need no torch.\n\n"
        f"Digest: sha256:{manifest.digest}"
    )


def _use(name: str) -> str:
    return f"""## Use

On the command line, or as a service:

```
simile score {name} "card lost" "where is my card"
simile serve {name}
curl -s localhost:8080/v1/similarity -H 'content-type: application/json' \\
  -d '{{"pairs": [["card lost", "where is my card"]]}}'
```

In Python:

```python
import simile

simile.load("{name}").score([("card lost", "where is my card")])
```"""


def _evaluation(report: BundleReport) -> str:
    bundle, baseline, leaked = report.bundle, report.baseline, report.leaked_texts
    where = f"{bundle.provider.removesuffix('ExecutionProvider')}, {bundle.precision}"
    where += f", against {baseline.name}@sha256:{baseline.digest[:12]}" if baseline else ""
    columns, guards = [*_COLUMNS], {f"{name} (guard)": entry for name, entry in report.guards.items()}
    rows = [_row(name, entry) for name, entry in (report.sets | guards).items()]
    remarks = [
        "The figures are Spearman's rank correlations of score and label. The intervals come from resampling the "
        "groups or texts that pairs share.",
        "Whether texts of these sets were trained on is unknown."
        if leaked is None
        else f"Number of texts of these sets that were trained on: {sum(leaked.values())}.",
    ]
    if report.verdict:
        remarks.append(f"The gate's verdict: {report.verdict} ({'; '.join(report.reasons)}).")
    errors = [entry.bundle.calibration_error for entry in report.all_sets.values()]
    if any(error is not None for error in errors):
        columns.append("ECE")
        rows = [[*row, _figure(error)] for row, error in zip(rows, errors, strict=True)]
        prior = "" if report.prior is None else f", shifted to a share of positives of {report.prior:g}"
        remarks.append(f"ECE is the expected calibration error of the probabilities{prior}.")
    table = _table(columns, rows)
    return "\n\n".join([f"## Evaluation on {_plain(where)}", table, *map(_plain, remarks)])


def _row(name: str, entry: SetEvaluation) -> list[str]:
    gain = entry.difference
    return [
        name,
        f"{entry.pairs:,}",
        _figure(entry.baseline.spearman if entry.baseline else None),
        _figure(entry.bundle.spearman),
        _figure(gain.spearman if gain else None, "+.4f"),
        f"[{_figure(gain.low, '+.4f')}, {_figure(gain.high, '+.4f')}]" if gain else "-",
        _figure(entry.bundle.auc),
        _figure(entry.bundle.separability),
        _figure(entry.lexical.spearman),
    ]


def _figure(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _members(manifest: Manifest) -> str:
    weights = manifest.combine.weights
    rows = [[member.name, f"{weights[member.name]:.4f}", *_facts(member)] for member in manifest.members]
    columns = ("member", "weight", "base", "revision", "pooling", "prompt", "tokens", "dimension")
    return f"## Members\n\n{_table(columns, rows)}"


def _facts(member: Member) -> list[str]:
    if not isinstance(member, EncoderMember):
        return ["TF-IDF", "-", "-", "-", "-", f"{member.dimension}"]
    prompts = " and ".join(repr(prompt) for prompt in dict.fromkeys(member.prompts))
    own = [member.base, member.revision or "-", member.pooling, prompts if any(member.prompts) else "-"]
    cuts = f" (or {', '.join(map(str, member.matryoshka))})" if member.matryoshka else ""
    return [*own, f"{member.max_length}", f"{member.dimension}{cuts}"]


def _decisions(manifest: Manifest) -> str:
    lines = []
    if thresholds := manifest.thresholds:
        precise = thresholds.precision_95
        sure = "No score is so high that" if precise is None else f"Above a score of {precise:.4f},"
        lines.append(f"The best F1 is at a score of {thresholds.best_f1:.4f}. {sure} 95 % of the pairs are positive.")
    if calibration := manifest.calibration:
        fit = f"fitted on pairs of which {calibration.positive_share:.0%} are positive"
        if isinstance(calibration, IsotonicCalibration):
            points, low, high = len(calibration.scores), calibration.scores[0], calibration.scores[-1]
            curve = f"a monotone curve through {points} points at scores from {low:.4f} to {high:.4f}"
        else:
            curve = f"1 / (1 + exp(-({calibration.slope:.4f} * score {calibration.intercept:+.4f})))"
        lines.append(f"Probability of a positive pair: {curve}, {fit}.")
        if calibration.error is not None:
            lines.append(
                f"Its expected calibration error on these pairs is {calibration.error:.4f}, with each pair's "
                "probability from a curve fitted on pairs of other groups or texts."
            )
    if not isinstance(manifest.made, BaselineProvenance) and manifest.made.trained_texts:
        lines.append(trained_on(manifest.made.trained_texts))
    return "\n\n".join(["## Thresholds and calibration", *map(_plain, lines)]) if lines else ""


def _made(manifest: Manifest) -> str:
    facts = flat({"by": manifest.made.by} | manifest.made.model_dump(mode="json"))
    rows = [[name, _value(value)] for name, value in facts.items()]
    return f"## How it was made\n\n{_table(('setting', 'value'), rows)}"


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return "-" if value in (None, "") else str(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *(map(_plain, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: object) -> str:
    """Return the text escaped so that Markdown shows it literally, on one line."""
    return re.sub(r"([\\`*_{}\[\]()<>#|~&!$])", r"\\\1", " ".join(str(text).split()))
