"""What trainings and announcements share of MLflow, which is installed and imported only where somebody uses it."""

import importlib.util
import os
import re

from simile.errors import InputError

TRACKING_URI = "MLFLOW_TRACKING_URI"
"""The variable that holds the address of MLflow's server or store."""
_DEFAULTS = {
    # Figures go only where the environment says.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # stdout is reserved for results.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # With MLflow's default of seven retries, it takes four minutes to give up a lost server.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}


def require_mlflow() -> bool:
    """Return whether the environment names an MLflow, and set our defaults of its variables if it does.

    Raises:
        InputError: it is named and not installed.
    """
    if not os.environ.get(TRACKING_URI):
        return False
    if importlib.util.find_spec("mlflow") is None:
        raise InputError(
            f"{TRACKING_URI} is set, but MLflow is not installed (pip install 'simile-pairs[mlflow]', or unset it)"
        )
    for setting, value in _DEFAULTS.items():
        os.environ.setdefault(setting, value)
    return True


def redacted(error: Exception) -> str:
    """Return the message without user name and password, which an address in it may contain."""
    return re.sub(r"//\S*@", "//", str(getattr(error, "message", error)))
