"""Checking what clients show, in the time that a test's clock has."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tunneld import secretsfile
from tunneld.attempts import BURST
from tunneld.secret import PasswordHash, Secret, of_token
from tunneld.secretsfile import SecretsFile
from tunneld.server import verifier as module
from tunneld.server.credentials import Basic, Bearer
from tunneld.server.verifier import Guard, UnauthorizedError, Verifier

SESAME = PasswordHash.of("open sesame", (16, 1, 1))
RIGHT = Basic("alice", "open sesame")
WRONG = Basic("alice", "open barley")


class Hashing:
    """Counts how often a password is hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        matches = PasswordHash.matches

        def counted(hashed: PasswordHash, password: str) -> bool:
            self.count += 1
            return matches(hashed, password)

        monkeypatch.setattr(PasswordHash, "matches", counted)


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    return Hashing(monkeypatch)


@pytest.fixture
def known(tmp_path: Path) -> SecretsFile:
    path = tmp_path / "secrets"
    secretsfile.add(path, Secret("alice", SESAME))
    secretsfile.add(path, of_token("web", "tnl_web"))
    return SecretsFile(path)


@pytest.fixture
def verifier(known: SecretsFile) -> Verifier:
    return Verifier(known, Guard())


async def refused(verifier: Verifier, credentials: Basic | Bearer, source: str = "s") -> str:
    with pytest.raises(UnauthorizedError) as caught:
        await verifier.verify(credentials, source)
    assert "barley" not in str(caught.value)
    return f"{caught.value} {caught.value.retry_after}"


@pytest.mark.parametrize(
    ("credentials", "name"),
    [(RIGHT, "alice"), (Bearer("tnl_web"), "web"), (Basic("web", "tnl_web"), "web")],
)
async def test_a_secret_tells_whose_it_is(
    verifier: Verifier, credentials: Basic | Bearer, name: str
) -> None:
    assert await verifier.verify(credentials, "s") == name


@pytest.mark.parametrize(
    "credentials",
    [
        WRONG,
        Basic("nobody", "open sesame"),
        Basic("alice", "tnl_web"),
        Basic("web", "open sesame"),
        Basic("", ""),
        Bearer("open sesame"),
        Bearer(SESAME.key.hex()),
    ],
)
async def test_anything_else_is_refused(verifier: Verifier, credentials: Basic | Bearer) -> None:
    await refused(verifier, credentials)


async def test_names_that_are_unknown_look_and_cost_like_others(
    verifier: Verifier, hashing: Hashing
) -> None:
    texts = {await refused(verifier, Basic(name, "x")) for name in ("alice", "web", "nobody")}
    assert texts == {"user name or password is wrong 0"}
    assert hashing.count == 3


async def test_a_right_password_is_hashed_once_in_a_while(
    verifier: Verifier, hashing: Hashing, autojump_clock: MockClock
) -> None:
    for _ in range(3):
        await verifier.verify(RIGHT, "s")
    assert hashing.count == 1
    await trio.sleep(61)
    await verifier.verify(RIGHT, "s")
    assert hashing.count == 2
    await refused(verifier, WRONG)


async def test_connections_that_come_together_share_the_work(
    verifier: Verifier, hashing: Hashing
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(verifier.verify, RIGHT, "s")
    assert hashing.count == 1


async def test_one_that_gives_up_leaves_the_work_to_the_next(
    verifier: Verifier, hashing: Hashing
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(verifier.verify, RIGHT, "s")
            scope.cancel()
            await verifier.verify(RIGHT, "s")
        assert await verifier.verify(RIGHT, "s") == "alice"
    assert verifier._checking == {}


async def test_a_password_that_was_right_is_forgotten_with_its_secret(
    verifier: Verifier, known: SecretsFile
) -> None:
    await verifier.verify(RIGHT, "s")
    secretsfile.remove(known.path, "alice")
    known.reload()
    await refused(verifier, RIGHT)


async def test_who_guesses_often_has_to_wait(
    verifier: Verifier, hashing: Hashing, autojump_clock: MockClock
) -> None:
    for number in range(int(BURST)):
        await refused(verifier, Basic("alice", f"barley {number}"))
    before = hashing.count
    assert await refused(verifier, RIGHT) == "too many wrong secrets from this address 10"
    assert hashing.count == before
    assert await verifier.verify(RIGHT, "elsewhere") == "alice"
    await trio.sleep(10)
    assert await verifier.verify(RIGHT, "s") == "alice"


async def test_who_is_known_goes_on_while_a_neighbour_guesses(verifier: Verifier) -> None:
    await verifier.verify(RIGHT, "s")
    for number in range(int(BURST) + 1):
        await refused(verifier, Basic("alice", f"barley {number}"))
    assert await verifier.verify(RIGHT, "s") == "alice"
    assert await verifier.verify(Bearer("tnl_web"), "s") == "web"


async def test_right_passwords_are_no_guesses(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEEP", 0.0)
    for _ in range(int(BURST) * 2):
        await verifier.verify(RIGHT, "s")


async def test_many_guesses_at_once_do_not_get_around_the_limit(
    verifier: Verifier, hashing: Hashing
) -> None:
    async def guess(number: int) -> None:
        await refused(verifier, Basic("alice", f"barley {number}"))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(guess, number)
    assert hashing.count == BURST


async def test_guesses_from_everywhere_do_not_pile_up(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []

    async def guess(number: int) -> None:
        guessed = Basic("alice", f"barley {number}")
        texts.append(await refused(verifier, guessed, str(number)))

    monkeypatch.setattr(module, "_MAX_WAITING", 3)
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(guess, number)
    assert len(texts) == 50
    assert any(text.startswith("too many") for text in texts)
