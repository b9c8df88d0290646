"""`simile evaluate --endpoint`: a server is judged as a bundle is, and nothing shows its key."""

import json
import subprocess
import sys

import pytest

from pipeline.cli import main
from serving.app import create_app
from serving.settings import Settings
from simile.artifacts import EVALUATION, EvaluationReport, read_bundle, write_bundle
from simile.scoring import load
from tests.live_servers import Reply, error, scripted, served

PLAIN = ("--device", "cpu", "--precision", "fp32")
KEY = "sk-0123-secret"
ROUTES = {"simile": "", "tei": "/similarity", "openai": "/v1#tiny"}
"""What follows the server's address in an endpoint of each API."""


@pytest.fixture(scope="module")
def server(tiny):
    """The service of the bundle `tiny`, which asks for a key."""
    scorer = load(tiny.path, device="cpu", precision="fp32")
    with served(create_app(Settings(max_pairs=16, api_keys=(KEY,)), scorer)) as url:
        yield url


@pytest.fixture(autouse=True)
def key(monkeypatch):
    for name in ("OWN", "OTHER"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)


@pytest.fixture
def evaluated(tmp_path, capsys):
    """Evaluate, and return the report; no output may show the key."""

    def run(*argv) -> dict:
        file, page = tmp_path / "report.json", tmp_path / "report.html"
        assert main(["evaluate", *map(str, argv), "--json", str(file), "--html", str(page)]) == 0
        report = json.loads(file.read_text())
        EvaluationReport.model_validate(report)
        output = capsys.readouterr()
        run.out, run.err, run.page = output.out, output.err, page.read_text()
        assert KEY not in "".join([run.out, run.err, run.page, file.read_text()])
        return report

    return run


def assert_same_figures(report, expected):
    """Compare the entries of all sets, whose figures may differ by the rounding of scores."""
    assert list(report["sets"]) == list(expected["sets"])
    for name, entry in report["sets"].items():
        for part in ("bundle", "baseline", "difference", "lexical"):
            approximate = expected["sets"][name][part]
            assert entry[part] == (approximate and pytest.approx(approximate, abs=1e-4))


@pytest.mark.parametrize("api", ROUTES)
def test_figures_of_a_server_are_those_of_its_bundle(api, server, tiny, pairs, evaluated, parse_page):
    expected = evaluated(tiny.path, pairs, *PLAIN)
    report = evaluated("--endpoint", f"own={server}{ROUTES[api]}", pairs)
    assert_same_figures(report, expected)
    assert set(report["sets"]["judged"]["bundle"]) == {"spearman", "auc", "separability", "overlap"}
    route = {"simile": "/v1/similarity", "tei": "/similarity", "openai": "/v1/embeddings"}[api]
    model = f"tiny@{tiny.manifest.digest}" if api == "tei" else tiny.identity
    assert report["bundle"] == {"name": "own", "url": f"{server}{route}", "api": api, "model": model}
    assert (report["baseline"], report["leaked_texts"]) == (None, None)
    assert evaluated.out.splitlines()[0].split()[:4] == ["Spearman", "pairs", "endpoint", "AUC"]
    words = {"simile": "Simile's API", "tei": "TEI's API", "openai": "OpenAI's API"}[api]
    assert f"own: {words} at {server}{route}, model {model}" in evaluated.err
    assert "100%" in evaluated.err
    text = " ".join(parse_page(evaluated.page).itertext())
    for shown in ("Evaluation of own", f"{words} at {server}{route}", "unknown: a server does not tell"):
        assert shown in text
    assert "Simile" not in text.replace(words, "")


@pytest.mark.parametrize("api", ROUTES)
def test_bundle_is_compared_with_a_server_and_a_server_with_a_bundle(api, server, tiny, words, pairs, evaluated):
    endpoint = f"own={server}{ROUTES[api]}"
    expected = evaluated(words.path, pairs, "--baseline", tiny.path, *PLAIN)
    stored = (words.path / EVALUATION).read_text()
    report = evaluated(words.path, pairs, "--baseline", endpoint, *PLAIN)
    assert_same_figures(report, expected)
    assert (report["bundle"], report["baseline"]["api"]) == (expected["bundle"], api)
    assert (words.path / EVALUATION).read_text() == stored
    expected = evaluated(tiny.path, pairs, "--baseline", words.path, *PLAIN)
    report = evaluated("--endpoint", endpoint, pairs, "--baseline", words.path, *PLAIN)
    assert_same_figures(report, expected)
    assert (report["bundle"]["api"], report["baseline"]) == (api, expected["baseline"])
    assert None not in report["sets"]["judged"]["difference"].values()


def test_second_endpoint_is_the_baseline(server, words, tiny, pairs, evaluated, parse_page):
    expected = evaluated(words.path, pairs, "--baseline", tiny.path, "--guard", f"again={pairs}", *PLAIN)
    with served(create_app(Settings(), load(words.path, device="cpu", precision="fp32"))) as url:
        endpoints = ["--endpoint", f"other={url}", "--endpoint", f"own={server}/v1#tiny"]
        report = evaluated(*endpoints, pairs, "--guard", f"again={pairs}")
    assert_same_figures(report, expected)
    assert (report["bundle"]["name"], report["baseline"]["name"]) == ("other", "own")
    assert (list(report["guards"]), report["verdict"]) == (["again"], None)
    header, *_ = evaluated.out.splitlines()
    assert header.split()[:5] == ["Spearman", "pairs", "baseline", "endpoint", "difference"]
    assert "baseline: own, OpenAI's API at" in " ".join(parse_page(evaluated.page).itertext())


def test_report_of_a_bundle_is_as_before(words, tiny, pairs, evaluated):
    own = write_bundle(words.path.with_name("own"), words.manifest, read_bundle(words.path).data, [])
    report = evaluated(own.path, pairs, "--baseline", tiny.path, *PLAIN)
    assert set(report["bundle"]) == set(report["baseline"]) == {"name", "digest", "provider", "precision"}
    (stored,) = json.loads((own.path / EVALUATION).read_text())["reports"]
    assert stored == report
    assert evaluated.out.splitlines()[0].split()[:5] == ["Spearman", "pairs", "baseline", "Simile", "difference"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "got no bundle, need BUNDLE or --endpoint NAME=URL"),
        ("words", "got no pairs, need PAIRS with labels to judge on"),
        ("--endpoint own=URL", "got no pairs, need PAIRS with labels to judge on"),
        ("http://user:secret@host x.csv", "got an address as BUNDLE, need --endpoint NAME=URL for a server"),
        (
            "words x.csv --endpoint own=URL",
            "got the bundle words and --endpoint, need one of them; to compare a bundle",
        ),
        ("--endpoint a=URL --endpoint b=URL --endpoint c=URL x.csv", "got more than two to compare, need"),
        ("--endpoint a=URL --endpoint b=URL --baseline words x.csv", "got more than two to compare, need"),
        ("--endpoint a=URL --endpoint b=URL --gate x.csv", "got --gate with an endpoint, need two bundles"),
        ("words x.csv --baseline a=URL --gate", "got --gate with an endpoint, need two bundles"),
        ("--endpoint a=URL x.csv --gate", "got --gate with an endpoint, need two bundles"),
        ("--endpoint a=URL x.csv --ledger file", "--ledger needs --gate"),
        ("--endpoint a=URL x.csv --prior 0.1", "got --prior with an endpoint, need a bundle to judge"),
        ("--endpoint a=URL x.csv --device cpu", "--precision or --verify-key without a bundle, need none"),
        ("--endpoint a=secret:8080 x.csv", "--endpoint: got no http:// or https:// address, need NAME=URL"),
        ("--endpoint http://user:secret@host x.csv", "endpoint: got an address without a name"),
        ("--endpoint a=http://user:secret@host x.csv", "url: got more than an address"),
        ("--endpoint a=http://host/?key=secret x.csv", "(a key goes into A_API_KEY)"),
        ("--endpoint a=http://host/v1 x.csv", "a: got no model, need one for OpenAI's API: a=http://host/v1#MODEL"),
        ("words x.csv --baseline http://secret@host", "endpoint: got an address without a name"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_one_line(argv, message, words, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").symlink_to(words.path)
    (tmp_path / "x.csv").write_text("text_a,text_b,label\na b,a b,1\nc d,e f,0\n")
    assert main(["evaluate", *argv.replace("URL", "http://127.0.0.1:9").split()]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("simile: ")
    assert message in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("reply", "code", "line"),
    [
        (error(401, "unauthorized", f"{KEY} is wrong"), 2, "401 unauthorized: need a valid key in OWN_API_KEY"),
        (error(403, "denied", f"no {KEY} here"), 2, "403 forbidden: no [api key] here"),
        (error(429, "busy", f"not {KEY}", retry_after="1000"), 75, "429 too_many_requests: not [api key]"),
        (error(500, "internal", KEY), 1, "500 internal_server_error: [api key]"),
        (Reply(body=b"<html>"), 1, "the response is not from a server of TEI's API (Invalid JSON"),
    ],
)
def test_failure_of_a_server_is_one_line_and_an_exit_code_without_the_key(reply, code, line, pairs, capsys, caplog):
    caplog.set_level("DEBUG")
    with scripted(lambda _: reply) as server:
        assert main(["evaluate", "--endpoint", f"own={server.url}/similarity", str(pairs)]) == code
        assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(f"simile: {server.url}/info: {line}")
    assert KEY not in err + caplog.text


def test_judging_a_server_needs_neither_torch_nor_a_web_framework(server, pairs):
    program = """
import sys
from pipeline.cli import main
code = main(sys.argv[1:])
loaded = {"torch", "transformers", "sentence_transformers", "fastapi", "uvicorn", "onnx", "rensa"} & sys.modules.keys()
assert not loaded, loaded
sys.exit(code)
"""
    command = [sys.executable, "-c", program, "evaluate", "--endpoint", f"own={server}", str(pairs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "judged" in done.stdout


@pytest.mark.parametrize(("package", "extra"), [("sklearn", "evaluate"), ("httpx2", "client")])
def test_missing_package_is_told_with_its_extra(package, extra, pairs):
    program = (
        f"import sys; sys.modules['{package}'] = None; from pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "evaluate", "--endpoint", "own=http://127.0.0.1:9", str(pairs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    line = f"evaluate needs the package {package}, which is not installed: pip install 'simile-pairs[{extra}]'"
    assert line in done.stderr
