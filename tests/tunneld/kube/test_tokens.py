"""Token reviews: what is asked, and the texts that agents are refused with."""

from typing import Any

import pytest
import trio

from tests.tunneld.kube.apidouble import ApiDouble, Reply, status
from tunneld.kube.client import KubeClient
from tunneld.kube.errors import TokenRefusedError
from tunneld.kube.tokens import TokenReviewer

GOOD = {
    "authenticated": True,
    "user": {"username": "system:serviceaccount:kube-system:agent", "uid": "7", "groups": ["x"]},
    "audiences": ["tunnel"],
}
FAILED = "Failed to validate authentication token, err:"


@pytest.fixture
def reviewer(client: KubeClient) -> TokenReviewer:
    return TokenReviewer(client, "tunnel", "kube-system", "agent")


async def refusal(reviewer: TokenReviewer, *authorization: str) -> str:
    with pytest.raises(TokenRefusedError) as caught:
        await reviewer.check(list(authorization))
    return str(caught.value)


def user(name: str) -> dict[str, Any]:
    return {**GOOD, "user": {"username": name}}


async def test_the_api_is_asked_about_the_token_for_our_audience(
    api: ApiDouble, reviewer: TokenReviewer
) -> None:
    api.tokens["abc"] = GOOD
    await reviewer.check(["Bearer abc"])
    assert api.asks[0].body["spec"] == {"token": "abc", "audiences": ["tunnel"]}


async def test_there_must_be_one_bearer_token(api: ApiDouble, reviewer: TokenReviewer) -> None:
    missing = "Authentication context was not found in metadata"
    assert await refusal(reviewer) == missing
    assert await refusal(reviewer, "Bearer a", "Bearer b") == "too many (2) tokens are received"
    for text in ("bearer a", "Basic a", "", "Bearer"):
        assert await refusal(reviewer, text) == 'received token does not have "Bearer " prefix'
    assert not api.asks


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"error": "invalid bearer token"}, "lookup failed: invalid bearer token"),
        ({**GOOD, "error": "odd"}, "lookup failed: odd"),
        ({"authenticated": False}, "lookup failed: service account jwt not valid"),
        ({}, "lookup failed: service account jwt not valid"),
        (user("admin"), "lookup failed: unexpected username format"),
        (user("system:node:a:b:c"), "lookup failed: unexpected username format"),
        (
            user("system:node:kube-system:agent"),
            "lookup failed: username returned is not a service account",
        ),
        (
            user("system:serviceaccount:other:agent"),
            'lookup failed: incoming request from "other" namespace. Expected "kube-system"',
        ),
        (
            user("system:serviceaccount:kube-system:other"),
            'lookup failed: incoming request from "other" service account. Expected "agent"',
        ),
        ({**GOOD, "audiences": ["api"]}, 'lookup failed: token is not for audience "tunnel"'),
    ],
)
async def test_a_token_that_is_not_good_is_refused_as_upstream_does(
    api: ApiDouble, reviewer: TokenReviewer, told: dict[str, Any], why: str
) -> None:
    api.tokens["abc"] = told
    assert await refusal(reviewer, "Bearer abc") == FAILED + why


@pytest.mark.parametrize("audiences", [None, []])
async def test_an_api_that_knows_no_audiences_is_believed(
    api: ApiDouble, reviewer: TokenReviewer, audiences: list[str] | None
) -> None:
    api.tokens["abc"] = {**GOOD, "audiences": audiences}
    await reviewer.check(["Bearer abc"])


async def test_the_api_s_own_text_is_passed_on_if_the_review_fails(
    api: ApiDouble, reviewer: TokenReviewer
) -> None:
    api.fail("REVIEW", status(403, "Forbidden", "tokenreviews is forbidden"))
    why = "Failed to authenticate request. err:tokenreviews is forbidden"
    assert await refusal(reviewer, "Bearer abc") == FAILED + why


async def test_an_api_that_is_down_refuses_everybody(
    api: ApiDouble, reviewer: TokenReviewer
) -> None:
    api.down = True
    why = 'Failed to authenticate request. err:Post "https://api.test/apis/'
    assert (await refusal(reviewer, "Bearer abc")).startswith(FAILED + why)


async def test_an_api_that_does_not_answer_refuses_after_its_time(
    autojump_clock: object, api: ApiDouble, reviewer: TokenReviewer
) -> None:
    api.hanging = {"REVIEW"}
    assert (await refusal(reviewer, "Bearer abc")).endswith(": no answer in 10 s")
    assert trio.current_time() == pytest.approx(10)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"status": 5}', b'{"status": {"user": "a"}}'])
async def test_an_answer_that_is_not_understood_refuses(
    api: ApiDouble, reviewer: TokenReviewer, body: bytes
) -> None:
    api.fail("REVIEW", Reply(201, body))
    told = await refusal(reviewer, "Bearer abc")
    assert told.startswith(f"{FAILED}Failed to authenticate request. err:")


async def test_an_answer_without_a_status_refuses(api: ApiDouble, reviewer: TokenReviewer) -> None:
    api.fail("REVIEW", Reply(201, b"{}"))
    why = "lookup failed: service account jwt not valid"
    assert await refusal(reviewer, "Bearer abc") == FAILED + why


async def test_many_agents_are_reviewed_at_once(
    autojump_clock: object, api: ApiDouble, reviewer: TokenReviewer
) -> None:
    api.delay = 3
    api.tokens["abc"] = GOOD
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(reviewer.check, ["Bearer abc"])
    assert trio.current_time() == pytest.approx(3)
