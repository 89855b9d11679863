"""What a driver says where the cluster wants a token, and where it has none."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from bench.session.fleet import cluster
from fmnist_models.errors import UserError


class NoToken(Exception):
    """As Ray raises it where RAY_AUTH_MODE is `token`, and nothing holds one."""


# What Ray 2.60 raises, and of it the words that a user must find: a wrong token, and a missing one
# where the mode is not set, end as if nobody were there.
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NoToken("Token authentication is enabled but ..."), "there is none: set RAY_AUTH_TOKEN"),
        (
            ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"),
            "one with a token wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
        ),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_a_users_mistake(error: Exception, says: str) -> None:
    def init(**_: Any) -> None:
        raise error

    ray = SimpleNamespace(init=init, exceptions=SimpleNamespace(AuthenticationError=NoToken))
    with pytest.raises(UserError, match=says) as found:
        cluster._connect(ray, "10.0.0.1:6379", {})
    assert "--address 10.0.0.1:6379" in str(found.value)
    assert "\n" not in str(found.value)


def test_nodes_on_this_machine_have_a_token_that_nobody_else_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Another test of this process may have imported Ray.
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    environment: dict[str, str] = {}
    monkeypatch.setattr(cluster.os, "environ", environment)
    cluster._closed()
    token = environment.pop("RAY_AUTH_TOKEN")
    assert environment.pop("RAY_AUTH_MODE") == "token"
    assert len(token) == 64
    cluster._closed()
    assert environment.pop("RAY_AUTH_TOKEN") != token
    environment["RAY_AUTH_MODE"] = "disabled"
    cluster._closed()
    assert environment == {"RAY_AUTH_MODE": "disabled"}
