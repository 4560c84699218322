"""Keeps schemathesis away from the one topic that must stay as it is, and from topics so large that making them is all a run does."""
import os

import schemathesis

KEPT = os.environ["MILLSTREAM_KEPT_TOPIC"]
PARTITIONS_MAX = 200


@schemathesis.hook
def before_call(context, case, kwargs):
    if (case.path_parameters or {}).get("topic") == KEPT:
        case.path_parameters["topic"] = KEPT + "-not"
    body = case.body
    if isinstance(body, dict):
        if body.get("topic") == KEPT:
            body["topic"] = KEPT + "-not"
        count = body.get("partitions")
        if isinstance(count, int) and PARTITIONS_MAX < count <= 100_000:
            body["partitions"] = PARTITIONS_MAX
