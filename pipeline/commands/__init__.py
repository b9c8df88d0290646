"""The commands: one module each, with the command's ``Options`` and its ``run``, imported when it is called.

The module of a command of two words has an underscore between them.
"""

SUMMARIES = {
    "quickstart": "Run the whole path on the embedded sample, in a few minutes on 2 CPU cores",
    "run": "Run the whole path on your own data; finished stages are skipped",
    "baseline": "Make a bundle of an untouched encoder",
    "mine": "Mine pairs as hard as the test from documents",
    "train": "Train on pairs and write a bundle",
    "distill": "Train on a bundle's scores besides labelled pairs, and write a smaller bundle",
    "evaluate": "Judge a bundle or a server on labelled pairs",
    "sample": "Choose the pairs to label from traffic, pairs or documents, and store their probability of inclusion",
    "label": "Label pairs on a local page",
    "labels merge": "Merge the answers of several people into target, calibration and test",
    "labels estimate": "Estimate figures of the traffic from a labelled sample of it",
    "labels audit": "List the pairs whose label is probably wrong, and groups that look like one or two",
    "labels correct": "Write labelled pairs to a second file, with the labels that people corrected",
    "labels power": "Simulate how many labelled pairs the gate needs to see a gain",
    "labels export": "Write pairs for Label Studio, Argilla or a spreadsheet",
    "labels import": "Read the answers given in Label Studio, Argilla or a spreadsheet",
    "join": "Join the members of several bundles in one ensemble",
    "score": "Score two texts, a file of pairs, or a folder of files",
    "embed": "Embed the texts of a file or a folder",
    "serve": "Serve a bundle over HTTP",
    "inspect": "Verify a bundle and describe it",
    "sign": "Sign a bundle with a private key",
    "verify": "Verify that a bundle is signed by a key",
    "push": "Upload a bundle to a bucket, under its digest, or to an OCI registry",
    "announce": "Tell a webhook or MLflow's registry of a published bundle",
    "pull": "Download a bundle from a bucket or an OCI registry, and verify it",
}
"""What each command does, in the order of `simile --help`."""


def module_of(command: str) -> str:
    """Return the name of the command's module."""
    return f"pipeline.commands.{command.replace(' ', '_')}"
