from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import OptionError
from deploy.settings import Options, from_environment


def test_environment_sets_options_and_leaves_the_rest() -> None:
    options = from_environment(
        {"INKWELL_PORT": "9000", "INKWELL_RUN_DIR": "/r", "CUDA_VISIBLE_DEVICES": "", "INKWELL_HOST": ""}
    )
    assert (options.port, options.run_dir, options.visible_devices) == (9000, Path("/r"), "")
    assert options.host == "127.0.0.1"
    assert from_environment({}) == Options()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"INKWELL_PORT": "many"}, "INKWELL_PORT = 'many'"),
        ({"INKWELL_PORT": "0"}, "port = 0"),
        ({"INKWELL_WORKER_PORT": "65535"}, "worker_port = 65535"),
        ({"INKWELL_PORT": "8082"}, "8080 to 8084"),
        ({"INKWELL_DRAIN_S": "-1"}, "drain_s = -1.0"),
        ({"INKWELL_STARTUP_S": "nan"}, "startup_s = nan"),
    ],
)
def test_bad_value_is_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(OptionError) as refused:
        from_environment(environment)
    assert named in str(refused.value)


def test_command_line_goes_over_the_environment_where_it_says_something() -> None:
    options = from_environment({"INKWELL_PORT": "9000"})
    assert options.changed(port=None, host="::1").port == 9000
    assert options.changed(port=9001).port == 9001


def test_options_read_back_from_json_with_absolute_paths() -> None:
    options = Options(models=("a", "b"), run_dir=Path("somewhere"))
    again = Options.from_json(options.to_json())
    assert again.run_dir == Path("somewhere").resolve()
    assert (again.models, again.port) == (("a", "b"), 8000)


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:8000"), ("127.0.0.1", "http://127.0.0.1:8000")]
)
def test_url_is_one_that_a_client_here_can_use(host: str, url: str) -> None:
    assert Options(host=host).url == url
