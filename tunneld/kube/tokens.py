"""Whether an agent's token is good: the API is asked with a token review.

All texts are those of konnectivity's proxy-server: agents and operators read them.
"""

import json
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from tunneld.kube.errors import KubeError, TokenRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunneld.kube.client import KubeClient

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
API_VERSION = "authentication.k8s.io/v1"
PREFIX = "Bearer "


class User(Struct, frozen=True):
    username: str = ""


class ReviewStatus(Struct, frozen=True):
    """What the API says of a token."""

    error: str = ""
    authenticated: bool = False
    user: User = User()
    audiences: tuple[str, ...] | None = None
    """Those of the requested that the token is for; nothing from authenticators that know none."""


class Review(Struct, frozen=True):
    status: ReviewStatus = ReviewStatus()


class TokenReviewer:
    """Lets in the agents of one service account.

    Args:
      audience: what their tokens must be issued for.
      namespace: of the service account.
      service_account: its name.
    """

    def __init__(
        self, client: "KubeClient", audience: str, namespace: str, service_account: str
    ) -> None:
        self._client = client
        self._audience = audience
        self._namespace = namespace
        self._service_account = service_account

    async def check(self, authorization: "Sequence[str]") -> None:
        """Return if the one value of ``authorization`` (gRPC metadata) holds a good token.

        Takes as long as the API does, and the client's limits of rate and time; may be cancelled.

        Raises:
          TokenRefusedError: it does not, or the API could not be asked.
        """
        if not authorization:
            raise TokenRefusedError("Authentication context was not found in metadata")
        if len(authorization) > 1:
            raise TokenRefusedError(f"too many ({len(authorization)}) tokens are received")
        if not authorization[0].startswith(PREFIX):
            raise TokenRefusedError(f'received token does not have "{PREFIX}" prefix')
        if refusal := await self._review(authorization[0].removeprefix(PREFIX)):
            raise TokenRefusedError(f"Failed to validate authentication token, err:{refusal}")

    async def _review(self, token: str) -> str:
        """Why the token is no good; "" if it is."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        try:
            answer = await self._client.create(PATH, body)
            review = msgspec.convert(answer, Review)
        except (KubeError, msgspec.ValidationError) as exc:
            return f"Failed to authenticate request. err:{exc}"
        if refusal := self._refusal(review.status):
            return f"lookup failed: {refusal}"
        return ""

    def _refusal(self, status: ReviewStatus) -> str:
        if status.error:
            return status.error
        if not status.authenticated:
            return "service account jwt not valid"
        if status.audiences and self._audience not in status.audiences:
            return f"token is not for audience {_quoted(self._audience)}"
        parts = status.user.username.split(":")
        if len(parts) != 4:
            return "unexpected username format"
        if parts[:2] != ["system", "serviceaccount"]:
            return "username returned is not a service account"
        for seen, expected, what in (
            (parts[2], self._namespace, "namespace"),
            (parts[3], self._service_account, "service account"),
        ):
            if seen != expected:
                request = f"incoming request from {_quoted(seen)} {what}"
                return f"{request}. Expected {_quoted(expected)}"
        return ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
