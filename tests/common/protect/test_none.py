"""`none` sends every packet, in the order of the tensor, without parity."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.common.small_tensors import planned

from gradfec_common.codes import BARE
from gradfec_common.protect import read_policy
from gradfec_common.transmit import room_for


@given(st.integers(1, 3000), st.sampled_from([None, 1, 2]))
def test_no_protection_sends_every_packet_bare_in_its_order(total, most):
    plan = planned("none", sizes=np.full(total, 196), room=room_for(4, most))
    ((n, stripe),) = plan.stripes
    assert (plan.kept, plan.parity, n, stripe.code) == (total, 0, stripe.k, BARE)
    assert stripe.packets.tolist() == list(range(total))
    assert plan.sent == -(-total // (most or 5))


def test_it_may_be_written_in_capitals():
    assert read_policy("NONE").name == "none"
