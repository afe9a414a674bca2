"""What every command line shares: plain errors, exit codes, and HOST:PORT arguments."""

import errno
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.console import Endpoint, EndpointType, Number, plain_errors


def outcome(error):
    @click.command()
    @plain_errors
    def command():
        if error:
            raise error

    return CliRunner().invoke(command)


@pytest.mark.parametrize(("error", "code"), [(GradfecError("no such port"), 1), (UsageError("no such port"), 2)])
def test_an_error_of_the_users_is_one_line_and_an_exit_code_never_a_traceback(error, code):
    result = outcome(error)
    assert result.exit_code == code
    assert result.stderr == "error: no such port\n"
    assert not result.stdout


def test_a_full_disk_is_one_line_and_not_a_fault_of_ours():
    for error, where in (
        (OSError(errno.ENOSPC, "No space left on device"), ""),
        (OSError(errno.ENOSPC, "No space left on device", "out.npz"), " out.npz"),
    ):
        result = outcome(error)
        assert result.exit_code == 1
        assert result.stderr == f"error: cannot write{where}: No space left on device: make room, or write elsewhere\n"
    assert isinstance(outcome(OSError(errno.EBADF, "a bug")).exception, OSError)


def test_ctrl_c_exits_with_130_and_success_with_0():
    assert outcome(KeyboardInterrupt()).exit_code == 130
    assert outcome(None).exit_code == 0


def test_a_bug_of_our_own_is_not_hidden():
    assert isinstance(outcome(RuntimeError("bug")).exception, RuntimeError)


def convert(text, default_host=None):
    return EndpointType(default_host).convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "default_host", "endpoint"),
    [
        ("cloud.example:9000", None, Endpoint("cloud.example", 9000)),
        ("[::1]:9000", None, Endpoint("::1", 9000)),
        ("10.0.0.1:1", None, Endpoint("10.0.0.1", 1)),
        ("9000", "", Endpoint("", 9000)),
        ("9000", "127.0.0.1", Endpoint("127.0.0.1", 9000)),
        (":9000", "", Endpoint("", 9000)),
        ("[::]:65535", "", Endpoint("::", 65535)),
    ],
)
def test_an_endpoint_is_read(text, default_host, endpoint):
    assert convert(text, default_host) == endpoint


@pytest.mark.parametrize(
    ("text", "default_host", "says"),
    [
        ("cloud.example", None, "'cloud.example' has no port: write HOST:PORT"),
        (":9000", None, "':9000' has no host"),
        ("host:0", None, "'0' in 'host:0' is not a port: use a number from 1 to 65535"),
        ("host:65536", None, "not a port"),
        ("host:-1", None, "not a port"),
        ("host:", None, "'' in 'host:' is not a port"),
        ("host:http", None, "not a port"),
        ("host:٣", None, "not a port"),
        ("port", "", "'port' is not a port: use a number from 1 to 65535"),
        ("http://localhost:9000", None, "'http://localhost:9000' is not HOST:PORT: leave out http:// and any path"),
        ("", "", "not a port"),
    ],
)
def test_text_that_is_no_endpoint_is_refused_with_a_sentence_that_quotes_it(text, default_host, says):
    with pytest.raises(click.UsageError, match=says):
        convert(text, default_host)


@given(st.sampled_from(["localhost", "10.0.0.1", "::1", "fe80::1%eth0"]), st.integers(1, 65535))
def test_an_endpoint_is_written_as_it_is_read(host, port):
    assert convert(str(Endpoint(host, port))) == Endpoint(host, port)


@given(st.text(max_size=30))
def test_reading_an_endpoint_raises_nothing_but_usage_errors(text):
    try:
        endpoint = convert(text, "")
    except click.UsageError:
        return
    assert 1 <= endpoint.port <= 65535


def test_a_value_that_is_an_endpoint_already_is_taken_as_it_is():
    assert convert(Endpoint("a", 1)) == Endpoint("a", 1)
    assert (EndpointType().name, EndpointType("").name) == ("HOST:PORT", "[HOST:]PORT")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tensorflow", "TensorFlow is not installed: pip install 'gradfec[lab]'"),
        ("keras.layers", "Keras is not installed: pip install 'gradfec[lab]'"),
        ("matplotlib.figure", "matplotlib is not installed: pip install 'gradfec[lab]'"),
    ],
)
def test_without_an_extra_a_command_that_needs_it_says_what_to_install(name, says, capsys):
    @plain_errors
    def command():
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {says}\n"


def test_another_module_that_is_missing_is_a_fault_of_ours_and_not_hidden():
    @plain_errors
    def command():
        raise ModuleNotFoundError("No module named 'gradfec_nothing'", name="gradfec_nothing")

    with pytest.raises(ModuleNotFoundError):
        command()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "many"])
def test_a_number_is_finite_and_within_its_bounds(text):
    with pytest.raises(click.BadParameter, match=text):
        Number(min=0).convert(text, None, None)


def test_a_number_within_its_bounds_is_taken():
    assert Number(min=0).convert("2.5", None, None) == 2.5


def test_a_program_without_standard_error_runs_and_nothing_of_it_becomes_descriptor_2():
    code = (
        "import os; from gradfec_host.console import plain_errors\n"
        "plain_errors(lambda: os.write(1, f'{os.open(os.devnull, os.O_RDONLY)} {sys.stderr.isatty()}'.encode()))()"
    )
    run = f'exec {sys.executable} -c "import sys; {code}" 2>&-'
    done = subprocess.run(["/bin/sh", "-c", run], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"3 False"
