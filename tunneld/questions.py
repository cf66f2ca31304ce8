"""Questions of the control socket that only roles of some kind answer (`Role.ask`)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from tunneld.request import bad_request
from tunneld.role import not_understood

Answers: TypeAlias = Mapping[str, tuple[type[Struct], Callable[[Any], Awaitable[dict[str, Any]]]]]
"""By question: the type of its parameters, and what answers it."""


async def answer(answers: Answers, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Answer one question.

    Raises:
      ControlError: nobody knows it, its parameters are of the wrong shape, or it is refused.
    """
    if method not in answers:
        raise not_understood(method)
    kind, run = answers[method]
    try:
        parameters = msgspec.convert(params, kind)
    except msgspec.ValidationError as exc:
        raise bad_request(exc, method) from exc
    return await run(parameters)
