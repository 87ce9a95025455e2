"""The wire contract as documents: JSON Schemas and AsyncAPI 3, generated from the types that the code decodes with.

``scripts/contract`` writes them into ``docs/``; a test compares what is there with what this module makes, so
that the documents cannot say anything else than the code does.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edge.alert import topics
from edge.alert.adjudication import ADJUDICATION, AdjudicationBody
from edge.alert.message import CONTENT_TYPE, JWS_TYPE, MAX_MESSAGE, MEDIA_TYPE, AlertBody, Envelope
from edge.alert.receipt import RECEIPT, ReceiptBody
from edge.alert.status import MAX_STATUS, HealthBody, StateBody
from edge.trust.audit import CHECKPOINT as AUDIT_CHECKPOINT
from edge.trust.revocation import MAX_MESSAGE as LONGEST_REVOCATIONS
from edge.trust.revocation import REVOCATION as SIGNED_REVOCATION
from edge.trust.revocation import Revocation

__all__ = ["asyncapi", "render", "schemas"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES: dict[str, type[msgspec.Struct]] = {
    "alert-envelope": Envelope,
    "alert-body": AlertBody,
    "state": StateBody,
    "health": HealthBody,
    "receipt-body": ReceiptBody,
    "adjudication-body": AdjudicationBody,
    "revocation-body": Revocation,
}
_MARKUP = re.compile(r":\w+:`~?([^`]*)`")


def _plain(value: Any) -> Any:
    """Without the mark-up of docstrings; the end of a text as JSON Schema's patterns write it."""
    if isinstance(value, dict):
        return {key: item.replace(r"\Z", "$") if key == "pattern" else _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _MARKUP.sub(r"\1", value) if isinstance(value, str) else value


def schemas() -> dict[str, dict[str, Any]]:
    """A JSON Schema (2020-12) for every body on the wire, by name. Unknown fields are forbidden in all of them."""
    made = {}
    for name, kind in _TYPES.items():
        (top,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
        whole = dict(definitions[kind.__name__]) if "$ref" in top else dict(top)
        others = {other: content for other, content in definitions.items() if other != kind.__name__}
        made[name] = _plain({"$schema": DIALECT, **whole, **({"$defs": others} if others else {})})
    return made


_ABOUT = {
    topics.ALERT: (
        "alert",
        "Alert",
        MEDIA_TYPE,
        (
            f"A CloudEvents 1.0 event whose data is a JWE (general JSON) around a compact JWS of type {JWS_TYPE} by "
            f"the van; the signed body is alert-body. At most {MAX_MESSAGE} bytes. "
            "Published with QoS 1 and the alert's expiry."
        ),
        "alert-envelope",
    ),
    topics.STATE: (
        "state",
        "State of a van",
        "application/json",
        f"Birth, last will and farewell of a van; retained. At most {MAX_STATUS} bytes.",
        "state",
    ),
    topics.HEALTH: (
        "health",
        "Counters of a van",
        "application/json",
        f"Counters and nothing else; QoS 0. At most {MAX_STATUS} bytes.",
        "health",
    ),
    topics.CHECKPOINT: (
        "checkpoint",
        "Checkpoint of the audit log",
        "application/jose",
        (
            f"A compact JWS of type {AUDIT_CHECKPOINT} by the van: number and hash of its log's latest entry. Kept by "
            "the control room, it proves that the log was not cut off; QoS 0, each one vouches for all before it. "
            f"The control room publishes its own with {topics.CONTROL_ROOM} in the place of the van, for watches "
            "elsewhere."
        ),
        "",
    ),
    topics.RECEIPT: (
        "receipt",
        "Receipt of alerts",
        "application/jose",
        (
            f"A compact JWS of type {RECEIPT.jws_type} by the control room; the signed body is receipt-body. At most "
            f"{RECEIPT.limit} bytes; QoS 0. A control room sends it when an alert is in its own store, and again for "
            "every repeat; the van repeats an alert until then or until it expires."
        ),
        "",
    ),
    topics.ADJUDICATION: (
        "adjudication",
        "Decision of a person",
        "application/jose",
        (
            f"A compact JWS of type {ADJUDICATION.jws_type} by the control room; the signed body is adjudication-body. "
            f"At most {ADJUDICATION.limit} bytes. Published with QoS 1."
        ),
        "",
    ),
    topics.REVOCATION: (
        "revocation",
        "Revocation",
        "application/jose",
        (
            f"One or more lines, each a compact JWS of type {SIGNED_REVOCATION} by one who may revoke; the signed body "
            "is revocation-body. Whoever publishes one publishes all that still count with it, since the broker keeps "
            "the newest message alone. The van believes the signatures and not the topic. At most "
            f"{LONGEST_REVOCATIONS} bytes. Published with QoS 1, "
            "retained."
        ),
        "",
    ),
}
_FROM_VAN = (topics.ALERT, topics.STATE, topics.HEALTH, topics.CHECKPOINT)


def asyncapi(version: str) -> dict[str, Any]:
    """The AsyncAPI 3 document, from the control room's point of view; ``version`` is the contract's."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for kind, (name, title, content_type, summary, schema) in _ABOUT.items():
        message: dict[str, Any] = {"name": name, "title": title, "contentType": content_type, "summary": summary}
        message["payload"] = {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "string"}
        messages[name] = message
        channels[kind] = {
            "address": f"{topics.ROOT}/{{van}}/{kind}",
            "title": title,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "parameters": {"van": {"description": "the van's name, as in its certificate"}},
            "bindings": {"mqtt": {"bindingVersion": "0.2.0"}},
        }
        operations[f"{'receive' if kind in _FROM_VAN else 'send'}{name.capitalize()}"] = {
            "action": "receive" if kind in _FROM_VAN else "send",
            "channel": {"$ref": f"#/channels/{kind}"},
            "messages": [{"$ref": f"#/channels/{kind}/messages/{name}"}],
            "bindings": {
                "mqtt": {
                    "qos": 0 if kind in {topics.HEALTH, topics.CHECKPOINT, topics.RECEIPT} else 1,
                    "retain": kind in {topics.STATE, topics.REVOCATION},
                    "bindingVersion": "0.2.0",
                }
            },
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "LFR Edge alerts",
            "version": version,
            "description": f"What vans and control rooms say to each other over MQTT 5. The data of an alert is "
            f"{CONTENT_TYPE}. Every schema forbids extra fields. The broker ties each topic to the certificate of "
            "the van; TLS 1.3 with client certificates throughout.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "broker.example:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "5",
                "description": "the control room's broker, or a van's that bridges to it",
                "security": [{"type": "X509", "description": "client certificate of the site"}],
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": {name: _inlined(schema) for name, schema in schemas().items()}},
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema without references into itself, as it must be once it stands inside another document."""
    definitions = schema.get("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolve(definitions[value["$ref"].rsplit("/", 1)[1]])
            return {key: resolve(item) for key, item in value.items() if key not in {"$defs", "$schema"}}
        return [resolve(item) for item in value] if isinstance(value, list) else value

    whole: dict[str, Any] = resolve(schema)
    return whole


def render(document: dict[str, Any]) -> str:
    """The AsyncAPI document as a page for people, in Markdown."""
    lines = [
        f"# {document['info']['title']}, contract {document['info']['version']}",
        "",
        "Made by `scripts/contract` from the types that the code decodes with; do not edit.",
        "",
        document["info"]["description"],
        "",
        "| Topic | Direction | QoS | Retained | Message |",
        "|---|---|---|---|---|",
    ]
    for operation in document["operations"].values():
        channel = document["channels"][operation["channel"]["$ref"].rsplit("/", 1)[1]]
        binding = operation["bindings"]["mqtt"]
        direction = "van → control room" if operation["action"] == "receive" else "control room → van"
        retained = "yes" if binding["retain"] else "no"
        lines.append(f"| `{channel['address']}` | {direction} | {binding['qos']} | {retained} | {channel['title']} |")
    for message in document["components"]["messages"].values():
        lines += ["", f"**{message['title']}** (`{message['contentType']}`): {message['summary']}"]
    for name, schema in document["components"]["schemas"].items():
        lines += ["", f"## {name}", "", schema.get("description", ""), "", "| Field | Type | Required | Meaning |"]
        lines.append("|---|---|---|---|")
        for field, content in schema["properties"].items():
            required = "yes" if field in schema.get("required", ()) else "no"
            lines.append(f"| `{field}` | {_kind(content)} | {required} | {content.get('description', '')} |")
    return "\n".join(lines) + "\n"


def _kind(content: dict[str, Any]) -> str:
    if "anyOf" in content:
        return " or ".join(_kind(option) for option in content["anyOf"])
    if "enum" in content:
        return " or ".join(f"`{value}`" for value in content["enum"])
    return f"{content.get('type', '')}{', ' + content['format'] if 'format' in content else ''}"
