"""What a van tells a Home Assistant: its counters, and nothing of any alert or person."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest
from jinja2 import Environment

from edge.alert.discovery import description
from edge.alert.status import HealthBody, StateBody
from edge.config import AlertSection
from edge.errors import ConfigInvalid

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def rendered(template: str, message: bytes) -> str:
    """What Home Assistant makes of a message: its templates are Jinja's."""
    return Environment(autoescape=True).from_string(template).render(value_json=json.loads(message))


def test_every_counter_of_the_health_message_is_described_and_its_template_finds_it() -> None:
    topic, payload = description("homeassistant", "van-1")
    told = json.loads(payload)
    assert topic == "homeassistant/device/lfr-edge/van-1/config"
    assert told["state_topic"] == "lfr/1/van-1/health"
    counters = set(HealthBody.__struct_fields__) - {"v", "van", "at"}
    assert set(told["cmps"]) == counters
    values = {name: number for number, name in enumerate(sorted(counters), 10)}
    health = msgspec.json.encode(HealthBody(van="van-1", at=NOW, **values))
    shown = {name: rendered(sensor["value_template"], health) for name, sensor in told["cmps"].items()}
    assert shown == {name: str(number) for name, number in values.items()}
    assert len({sensor["unique_id"] for sensor in told["cmps"].values()}) == len(counters)


@pytest.mark.parametrize(("state", "shown"), [("online", "online"), ("offline", "offline"), ("lost", "offline")])
def test_a_van_is_available_while_it_is_online(state: str, shown: str) -> None:
    told = json.loads(description("homeassistant", "van-1")[1])
    message = msgspec.json.encode(msgspec.convert({"van": "van-1", "state": state, "since": NOW}, StateBody))
    assert told["availability_topic"] == "lfr/1/van-1/state"
    assert rendered(told["availability_template"], message) == shown


def test_no_topic_of_alerts_or_decisions_is_in_it() -> None:
    text = description("homeassistant", "van-1")[1].decode()
    for kind in ("alert", "receipt", "adjudication", "revocation", "checkpoint"):
        assert f"lfr/1/van-1/{kind}" not in text


def test_it_is_off_unless_somebody_asks_and_a_name_that_does_not_go_with_it_is_refused() -> None:
    assert AlertSection().discovery == ""
    with pytest.raises(ConfigInvalid, match=r"van\.1"):
        description("homeassistant", "van.1")
