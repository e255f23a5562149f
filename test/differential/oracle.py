"""Synapse as an oracle: one JSON request a line on stdin, one JSON answer a line on stdout, in order.

Run with the Python of a virtual environment that has matrix-synapse. A request names its operation in "op"; the modules
beside this file bring the operations. What fails inside an operation is an answer, {"error": ...}, never an end.
"""

import importlib
import json
import logging
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
logging.disable(logging.CRITICAL)

OPERATIONS = {}
for module in ("oracle_events", "oracle_rules"):
    if os.path.exists(os.path.join(sys.path[0], module + ".py")):
        OPERATIONS.update(importlib.import_module(module).OPERATIONS)

for line in sys.stdin.buffer:
    try:
        request = json.loads(line)
        answer = OPERATIONS[request["op"]](request)
    except Exception as error:
        answer = {"error": "%s: %s" % (type(error).__name__, error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
