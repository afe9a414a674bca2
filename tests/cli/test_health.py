"""`gradfec health`, asking what is no daemon of ours."""

import socket
import threading

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
