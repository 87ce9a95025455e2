"""How a van describes its counters to Home Assistant, so that a workshop's screen shows them by itself. Off by default.

One retained message per van in the form of Home Assistant's MQTT device discovery
(https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload), made from the fields of
:class:`edge.alert.status.HealthBody`. It describes state and counters, which exist anyway, and nothing else: no
topic of alerts, decisions or receipts is in it, and the broker does not let such a screen read them.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edge import __version__
from edge.alert import topics
from edge.alert.status import HealthBody
from edge.errors import ConfigInvalid

__all__ = ["NODE", "description"]

NODE = "lfr-edge"
"""The level of the topic before the van's name."""
_OBJECT = re.compile(r"[A-Za-z0-9_-]+")
_LEVELS = {"alerts_waiting"}
"""Counters that fall as well as rise."""
_NOT_SHOWN = {"v", "van", "at"}


def description(prefix: str, van: str) -> tuple[str, bytes]:
    """The topic and the message that describe ``van``.

    Args:
        prefix: what Home Assistant listens under; by default its own is ``homeassistant``.
        van: the van's name.

    Raises:
        ConfigInvalid: the name has a character that Home Assistant does not take in a topic.
    """
    if not _OBJECT.fullmatch(van):
        raise ConfigInvalid(
            "key alert.discovery",
            f"cannot be used with the van name {van}: Home Assistant accepts only letters, digits, _ and -",
            "Leave it empty, or enrol the van under another name",
        )
    state = topics.topic(van, topics.STATE)
    content = {
        "dev": {"ids": f"{NODE}-{van}", "name": f"Van {van}", "mf": "LFR Edge", "sw": __version__},
        "o": {"name": "LFR Edge", "sw": __version__},
        "availability_topic": state,
        "availability_template": "{{ 'online' if value_json.state == 'online' else 'offline' }}",
        "state_topic": topics.topic(van, topics.HEALTH),
        "qos": 0,
        "cmps": {name: _sensor(van, name) for name in HealthBody.__struct_fields__ if name not in _NOT_SHOWN},
    }
    return f"{prefix}/device/{NODE}/{van}/config", msgspec.json.encode(content)


def _sensor(van: str, name: str) -> dict[str, Any]:
    return {
        "p": "sensor",
        "unique_id": f"{NODE}-{van}-{name}",
        "name": name.replace("_", " ").capitalize(),
        "value_template": f"{{{{ value_json.{name} }}}}",
        "state_class": "measurement" if name in _LEVELS else "total_increasing",
        "entity_category": "diagnostic",
    }
