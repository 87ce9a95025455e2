"""What may be a name, and that the same is said everywhere."""

from __future__ import annotations

import msgspec
import pytest

from edge.alert import topics
from edge.errors import AlertRejected, BadInput
from edge.names import Name
from provisioning.site import check_name

GOOD = ["v", "van-1", "Op_2026.11.23", "9" * 64]
BAD = ["", "-van", ".van", "van 1", "van/1", "van+", "van#", "vän", "9" * 65, "van-1\n"]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_is_one_in_a_message_a_topic_and_a_certificate(name: str) -> None:
    assert msgspec.convert(name, Name) == name
    assert topics.parse(topics.topic(name, topics.STATE)) == (name, topics.STATE)
    check_name(name)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_is_refused_in_all_three(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, Name)
    with pytest.raises(AlertRejected):
        topics.topic(name, topics.STATE)
    with pytest.raises(BadInput):
        check_name(name)
