"""`simile label`: a local page on which a person says which pairs mean the same."""

import getpass
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.options import CommandOptions, named, value
from pipeline.output import require_apart, require_file
from simile.artifacts.sampled_pairs import SampledPair, read_sampled_pairs
from simile.errors import InputError
from simile.files import alone, require_writable
from simile.progress import say

if TYPE_CHECKING:
    from labelling.annotation import Annotation
    from labelling.order import Task

_MAX_GUIDELINES_BYTES = 2**20


class Options(CommandOptions):
    """Options of `simile label`."""

    pairs: Annotated[Path, named("PAIRS")]
    """Pairs to label, as `simile sample` writes them: a table with two texts per row, and perhaps scores. Pairs with a
    column ``label`` are shown with it, in the order of the file, to confirm or change it."""
    out: Annotated[Path, value("ANSWERS.jsonl")]
    """File that the answers are appended to; the same command goes on where it was stopped."""
    annotator: Annotated[str | None, value("NAME")] = None
    """Name of the person who answers (default: the login name)."""
    guidelines: Annotated[Path | None, value("FILE.md")] = None
    """Markdown file that is shown beside the pairs: when two texts count as the same."""
    bundle: Annotated[Path | None, value("BUNDLE")] = None
    """Bundle whose threshold orders the pairs, and whose scores do where PAIRS has no ``bundle_score``."""
    baseline: Annotated[Path | None, value("BUNDLE")] = None
    """Untouched encoder whose scores order the pairs where PAIRS has no ``baseline_score``."""
    random: Annotated[int | None, Field(ge=0), value("N")] = None
    """Pairs of the random part, which comes first (default: half of the pairs, or all where there are no scores)."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8090
    """Port on 127.0.0.1; 0 takes a free one."""
    no_browser: bool = False
    """Only print the address."""


def run(options: Options) -> int:
    """Serve the page until Ctrl-C; return the exit code."""
    from labelling.annotation import Annotation
    from labelling.server import About
    from labelling.server import run as run_server

    require_file(options.pairs)
    require_apart([options.out], [options.pairs, options.guidelines])
    require_writable(options.out)
    guidelines, annotator = _guidelines(options.guidelines), _annotator(options.annotator)
    tasks = _tasks(read_sampled_pairs(options.pairs), options)
    with alone(options.out):
        annotation = Annotation(tasks, options.out, annotator=annotator)
        if num := annotation.num_unknown:
            say(f"note: {options.out}: {num} answers are to pairs that {options.pairs} does not have")
        _say_progress(annotation, options.out)

        def on_ready(url: str) -> None:
            say(f"label at {url} as {annotator}; Ctrl-C ends it, and the same command goes on")
            if not options.no_browser:
                webbrowser.open(url)

        about = About(annotator=annotator, out=options.out.name, guidelines=guidelines)
        run_server(annotation, about, port=options.port, on_ready=on_ready)
        _say_progress(annotation, options.out)
    return 0


def _say_progress(annotation: "Annotation", out: Path) -> None:
    state = annotation.state()
    counts = ", ".join(f"{num} {choice}" for choice, num in state.counts.items())
    say(f"{out}: {state.progress.done:,} of {state.progress.total:,} pairs" + (f" ({counts})" if counts else ""))


def _annotator(name: str | None) -> str:
    if name is None:
        try:
            name = getpass.getuser()
        except (OSError, KeyError) as error:
            raise InputError("got no login name, need --annotator NAME") from error
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise InputError(f"--annotator: got {name!r:.60}, need a name of up to 100 printable characters")
    return name.strip()


def _guidelines(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_GUIDELINES_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: got no UTF-8 at byte {error.start}, need a Markdown file") from error
    if len(content) > _MAX_GUIDELINES_BYTES:
        raise InputError(f"{path}: got more than {_MAX_GUIDELINES_BYTES:,} bytes, need guidelines that a person reads")
    return text


def _tasks(pairs: Sequence[SampledPair], options: Options) -> "tuple[Task, ...]":
    """Return the pairs in the order in which they are shown."""
    from labelling.order import audit_order, labelling_order
    from labelling.present import read_present_labels

    if labels := read_present_labels(options.pairs):
        if options.random is not None or options.bundle or options.baseline:
            got = f"{options.pairs}: got pairs with labels and --random, --bundle or --baseline"
            raise InputError(f"{got}, need none of them: labelled pairs are shown in the order of the file")
        return audit_order(pairs, labels)
    if options.baseline and any(pair.baseline_score is None for pair in pairs):
        pairs = _with_scores(pairs, options.baseline, "baseline_score")
    if options.bundle and any(pair.bundle_score is None for pair in pairs):
        pairs = _with_scores(pairs, options.bundle, "bundle_score")
    return labelling_order(pairs, num_random=options.random, threshold=_threshold(options.bundle))


def _with_scores(
    pairs: Sequence[SampledPair], bundle: Path, column: Literal["bundle_score", "baseline_score"]
) -> Sequence[SampledPair]:
    # Imported here, because ONNX Runtime takes longer than the start of the page.
    from pipeline.scores import with_scores
    from simile.scoring import load

    return with_scores(pairs, load(bundle), column)


def _threshold(bundle: Path | None) -> float | None:
    from simile.artifacts import read_bundle

    thresholds = read_bundle(bundle).manifest.thresholds if bundle else None
    return thresholds.best_f1 if thresholds else None
