"""The environment as a value and as JSON."""

import json
from dataclasses import replace

from abi.environment import Environment
from tests.environments import ENVIRONMENT


def test_json_and_back() -> None:
    more = replace(
        ENVIRONMENT, missing={"uffd0": "not permitted"}, capabilities=frozenset(("IPC_LOCK",))
    )
    for environment in (ENVIRONMENT, more):
        assert Environment.from_json(json.loads(json.dumps(environment.to_json()))) == environment


def test_objects_by_descriptor() -> None:
    memfd = ENVIRONMENT.object(10)
    assert memfd is not None
    assert memfd.name == "memfd"
    assert ENVIRONMENT.object(9) is None
