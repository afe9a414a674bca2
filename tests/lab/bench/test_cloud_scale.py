"""`gradfec bench cloud-scale` for a moment: edges are served, counted and let go. No time is asserted."""

import json

import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_lab.bench.cloud_scale import numbers

pytestmark = pytest.mark.daemons


def bench(*arguments):
    return CliRunner().invoke(main, ["bench", "cloud-scale", "--seconds", "0.5", *arguments])


def test_each_number_of_edges_is_served_by_a_cloud_of_its_own():
    done = bench("--edges", "1,3", "--protect", "FEC_10_90", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert [load["edges"] for load in said["cloud_scale"]] == [1, 3]
    for load in said["cloud_scale"]:
        assert load["tensors"] > 0
        assert load["datagrams_per_s"] > 0
        assert load["cpu_us_a_datagram"] > 0
        assert load["memory_mb"] > 10
        assert 0 <= load["lost_share"] < 1
    best = max(load["datagrams_per_s"] for load in said["cloud_scale"])
    assert said["datagrams_per_s"] == {"cloud_one_core": best}
    assert (said["codec"], said["packets_per_datagram"]) == ("bottleneck", "fit")


def test_frames_as_in_the_paper_are_served_too():
    done = bench("--edges", "1", "--codec", "uniform8", "--packets-per-datagram", "1", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["codec"], said["packets_per_datagram"]) == ("uniform8", "1")
    assert said["cloud_scale"][0]["tensors"] > 0


def test_a_number_of_packets_is_one_or_more_or_fit():
    done = bench("--packets-per-datagram", "0")
    assert done.exit_code == 2
    assert "'0' is not a number of packets: use a number of at least 1, or fit" in " ".join(done.stderr.split())


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "257", "1,,2"])
def test_what_is_no_number_of_edges_is_refused(text):
    done = bench("--edges", text)
    assert done.exit_code == 2
    assert "use numbers from 1 to 256, for example 1,4,16" in done.stderr
    assert text == "" or text.split(",")[0] in done.stderr


def test_numbers_are_read_in_their_order():
    assert numbers("4, 1") == [4, 1]
