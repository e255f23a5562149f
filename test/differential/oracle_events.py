"""Answers questions about single events with Synapse's own code; operations for the line protocol of oracle.py.

event    {"room_version", "raw": JSON text} -> what Synapse makes of the event, or {"refused"}: it would not take it
sign     {"room_version", "raw", "server", "seed"} -> {"hashes", "signatures"}
verify   {"message", "key", "signature"}, all base64 -> {"verified"}

In `raw`, "@@1e3@@" stands for the number literal 1e3, which JSON libraries would not carry otherwise.
"""

import hashlib
import re

from canonicaljson import encode_canonical_json
from nacl.signing import VerifyKey
from signedjson.key import decode_signing_key_base64
from synapse.api.errors import EventSizeError, SynapseError
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import add_hashes_and_signatures, check_event_content_hash, compute_content_hash
from synapse.event_auth import _check_size_limits
from synapse.events.utils import prune_event
from synapse.federation.federation_base import InvalidEventSignatureError, _check_sigs_on_pdu, event_from_pdu_json
from synapse.util.json import json_decoder
from unpaddedbase64 import decode_base64, encode_base64


class RecordingKeyring:
    """Says yes to every signature and remembers whose was wanted."""

    def __init__(self):
        self.wanted = []

    async def verify_event_for_server(self, server_name, event, validity_time):
        self.wanted.append([server_name, validity_time])


def wanted_signers(event):
    keyring = RecordingKeyring()
    try:
        _check_sigs_on_pdu(keyring, event.room_version, event).send(None)
    except StopIteration:
        return keyring.wanted
    except InvalidEventSignatureError:
        return "refused"


def content_hash_verdict(event):
    try:
        return "match" if check_event_content_hash(event) else "mismatch"
    except SynapseError:
        return "unreadable"


def read(raw):
    return json_decoder.decode(re.sub(r'"@@([^"@]*)@@"', r"\1", raw))


def text(value):
    return encode_canonical_json(value).decode("utf-8")


def without(json, *keys):
    return {key: value for key, value in json.items() if key not in keys}


def event(request):
    version = KNOWN_ROOM_VERSIONS[request["room_version"]]
    try:
        json = read(request["raw"])
        canonical = text(json)
        parsed = event_from_pdu_json(json, version)
        _check_size_limits(parsed)
        fits = True
    except EventSizeError as error:
        if error.unpersistable:
            return {"refused": str(error)}
        fits = False
    except Exception as error:
        return {"refused": "%s: %s" % (type(error).__name__, error)}
    redacted = without(prune_event(parsed).get_pdu_json(), "unsigned")
    return {
        "event_id": parsed.event_id,
        "room_id": parsed.room_id,
        "fits": fits,
        "content_hash": encode_base64(compute_content_hash(parsed.get_pdu_json(), hashlib.sha256)[1]),
        "content_hash_verdict": content_hash_verdict(parsed),
        "canonical_json": canonical,
        "redacted": text(redacted if "signatures" in json else without(redacted, "signatures")),
        "signed_text": text(without(redacted, "signatures")),
        "prev_events": list(parsed.prev_event_ids()),
        "signers": wanted_signers(parsed),
    }


def sign(request):
    json = read(request["raw"])
    key = decode_signing_key_base64("ed25519", "1", request["seed"])
    add_hashes_and_signatures(KNOWN_ROOM_VERSIONS[request["room_version"]], json, request["server"], key)
    return {"hashes": text(json["hashes"]), "signatures": text(json["signatures"])}


def verify(request):
    try:
        VerifyKey(decode_base64(request["key"])).verify(
            decode_base64(request["message"]), decode_base64(request["signature"])
        )
        return {"verified": True}
    except Exception:
        return {"verified": False}


OPERATIONS = {"event": event, "sign": sign, "verify": verify}
