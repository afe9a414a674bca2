"""`gradfec health`, asking what is no daemon of ours."""

import contextlib
import socket
import threading
import time

from click.testing import CliRunner

from gradfec_cli.health import health


def test_what_a_stranger_answers_steers_no_terminal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer() -> None:
            connection, _ = stranger.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x1b[2J\nwell")

        threading.Thread(target=answer, daemon=True).start()
        result = CliRunner().invoke(health, [str(stranger.getsockname()[1])])
    assert (result.exit_code, result.output) == (0, " [2J well\n")


def test_an_answer_of_a_byte_now_and_then_is_none_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer() -> None:
            connection, _ = stranger.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(100):
                    connection.sendall(b"H")
                    time.sleep(0.05)

        threading.Thread(target=answer, daemon=True).start()
        port = stranger.getsockname()[1]
        result = CliRunner().invoke(health, [str(port), "--timeout-s", "0.3"])
    assert (result.exit_code, result.output) == (1, f"error: no answer from 127.0.0.1:{port}: timed out\n")
