import pytest
from pydantic import ValidationError

from serving.settings import Settings
from simile.errors import InputError


def test_settings_default_where_the_environment_says_nothing():
    assert Settings.resolve({}, {"PATH": "/bin"}) == Settings()


def test_settings_read_every_option_from_the_environment():
    values = {
        "host": "0.0.0.0",
        "port": 81,
        "metrics_port": 91,
        "device": "cpu",
        "precision": "fp32",
        "digest": "0" * 64,
        "verify_key": "public.pem",
        "model_name": "cards",
        "load_s": 60.5,
        "prior": 0.1,
        "max_body_bytes": 1000,
        "max_pairs": 10,
        "max_characters": 100,
        "max_waiting_tokens": 20,
        "cache_bytes": 0,
        "log_format": "json",
        "timing_headers": False,
        "shadow": "candidate",
        "shadow_share": 0.2,
        "sample_folder": "sample",
        "sample_share": 0.01,
        "sample_bytes": 2**25,
        "sample_hashed": True,
        "drift_folder": "drift",
        "long_texts": "refuse",
        "api_keys": ("first-key", "second-key"),
        "api_keys_file": "keys",
        "hosts": ("simile.example", "127.0.0.1"),
        "cors_origins": ("https://a.example", "https://b.example"),
        "transfer_s": 3.5,
        "deadline_s": 1.5,
        "connection_age_s": 4.5,
        "linger_s": 0.5,
        "drain_s": 2.5,
    }
    assert set(values) == set(Settings.model_fields)
    written = {option: " ".join(value) if isinstance(value, tuple) else str(value) for option, value in values.items()}
    environ = {f"SIMILE_{option.upper()}": value for option, value in written.items()}
    assert Settings.resolve({}, environ) == Settings(**values)


def test_settings_put_the_command_line_over_the_environment():
    settings = Settings.resolve({"port": 81, "host": None}, {"SIMILE_PORT": "82", "SIMILE_HOST": "::1"})
    assert (settings.port, settings.host) == (81, "::1")


@pytest.mark.parametrize(
    ("overrides", "environ", "source"),
    [
        ({}, {"SIMILE_PORT": "eighty"}, "SIMILE_PORT"),
        ({}, {"SIMILE_PORT": "tcp://10.0.0.1:8080"}, "SIMILE_PORT"),
        ({}, {"SIMILE_DEADLINE_S": "inf"}, "SIMILE_DEADLINE_S"),
        ({}, {"SIMILE_DEVICE": ""}, "SIMILE_DEVICE"),
        ({"max_pairs": 0}, {}, "--max-pairs"),
        ({}, {"SIMILE_PRIOR": "1"}, "SIMILE_PRIOR"),
        ({"prior": "0"}, {}, "--prior"),
        ({"prior": "nan"}, {}, "--prior"),
        ({"prior": "rare"}, {}, "--prior"),
        ({"max_pairs": 0}, {"SIMILE_MAX_PAIRS": "5"}, "--max-pairs"),
        ({"prot": 1}, {}, "--prot"),
        ({"cache_bytes": -1}, {}, "--cache-bytes"),
        ({"cors_origins": "example.org"}, {}, "--cors-origins"),
        ({}, {"SIMILE_CORS_ORIGINS": "https://a.example/path"}, "SIMILE_CORS_ORIGINS"),
    ],
)
def test_settings_name_the_bad_value_in_one_line(overrides, environ, source):
    with pytest.raises(InputError, match=source) as caught:
        Settings.resolve(overrides, environ)
    assert "\n" not in str(caught.value)


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().port = 1
