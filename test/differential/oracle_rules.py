"""Answers questions about auth rules and state resolution with Synapse's own code, in a process of its own.

Operations for the line protocol of oracle.py; each takes one request object and returns one answer object:

auth     {"room_version", "event", "auth_events": [...], "rejected": [ids]} -> {"allowed", "error"}
         Size limits, rule 2 (citations) and all others, against the cited events; in version 12 `auth_events` has the
         create event too.
         With "state_only": true: only the rules that depend on the state, against `auth_events` as the state.
resolve  {"room_version", "room_id", "events": [...], "state_sets": [[ids], ...], "rejected": [ids],
          "unpersisted": bool} -> {"state": [ids, sorted]}
         With "unpersisted" Synapse's own code works out the auth difference; otherwise the naive one below does.

An event whose id is not its hash stands in "event_id"; room versions 1 and 2 always do that.
"""

from synapse import event_auth
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS, StateResolutionVersions
from synapse.events import make_event_from_dict
from synapse.state import v1, v2
from synapse.storage.databases.main.event_federation import StateDifference


def run(coroutine):
    """Runs a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the coroutine waited for something")


class Store:
    """The events of one request, as the parts of Synapse's stores that auth and resolution ask for."""

    def __init__(self, events):
        self.events = events
        self.chains = {}

    async def get_events(self, event_ids, redact_behaviour=None, get_prev_content=False, allow_rejected=False):
        found = {}
        for event_id in event_ids:
            event = self.events.get(event_id)
            if event is not None and (allow_rejected or event.rejected_reason is None):
                found[event_id] = event
        return found

    def chain(self, event_id):
        """The event and everything reachable over auth events."""
        if event_id not in self.chains:
            seen = set()
            pending = [event_id]
            while pending:
                at = pending.pop()
                if at in seen:
                    continue
                seen.add(at)
                event = self.events.get(at)
                if event is not None:
                    pending.extend(event.auth_event_ids())
            self.chains[event_id] = seen
        return self.chains[event_id]

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted_state, additional):
        full = [set().union(*(self.chain(event_id) for event_id in ids)) if ids else set() for ids in state_sets]
        difference = set.union(*full) - set.intersection(*full)
        subgraph = None
        if conflicted_state is not None:
            below = set().union(*(self.chain(event_id) for event_id in conflicted_state))
            subgraph = {event_id for event_id in below if self.chain(event_id) & conflicted_state}
        return StateDifference(auth_difference=difference, conflicted_subgraph=subgraph)


class Clock:
    async def sleep(self, duration):
        pass


def make_events(room_version, dicts, rejected):
    made = {}
    for event_dict in dicts:
        event = make_event_from_dict(event_dict, room_version)
        if event.event_id in rejected:
            event = make_event_from_dict(event_dict, room_version, rejected_reason="rejected")
        made[event.event_id] = event
    return made


def auth(request):
    room_version = KNOWN_ROOM_VERSIONS[request["room_version"]]
    rejected = set(request.get("rejected", ()))
    events = make_events(room_version, request["auth_events"], rejected)
    event = make_event_from_dict(request["event"], room_version)
    try:
        if request.get("state_only"):
            event_auth.check_state_dependent_auth_rules(event, events.values())
        else:
            event_auth._check_size_limits(event)
            run(event_auth.check_state_independent_auth_rules(Store(events), event))
            event_auth.check_state_dependent_auth_rules(event, [events[event_id] for event_id in event.auth_event_ids()])
    except Exception as error:
        return {"allowed": False, "error": "%s: %s" % (type(error).__name__, error)}
    return {"allowed": True}


def resolve(request):
    room_version = KNOWN_ROOM_VERSIONS[request["room_version"]]
    events = make_events(room_version, request["events"], set(request.get("rejected", ())))
    state_sets = [
        {(events[event_id].type, events[event_id].state_key): event_id for event_id in ids}
        for ids in request["state_sets"]
    ]
    store = Store(events)
    try:
        if room_version.state_res == StateResolutionVersions.V1:
            resolved = run(
                v1.resolve_events_with_store(request["room_id"], room_version, state_sets, None, store.get_events)
            )
        else:
            event_map = dict(events) if request.get("unpersisted") else None
            resolved = run(
                v2.resolve_events_with_store(Clock(), request["room_id"], room_version, state_sets, event_map, store)
            )
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}
    return {"state": sorted(resolved.values())}


OPERATIONS = {"auth": auth, "resolve": resolve}
