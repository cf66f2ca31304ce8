"""The program that looks from inside of a namespace: a question in, findings out."""

import io
import json
from pathlib import Path

import msgspec

from tests.tunneld.doctor.samples import only
from tunneld.config import EchoConfig
from tunneld.doctor.finding import Finding
from tunneld.doctor.inside import answer, inside_checks
from tunneld.doctor.running import run_checks


def test_it_answers_with_a_finding_a_line() -> None:
    role = EchoConfig(name="lab/echo", namespace="private", listen="127.0.0.1:1")
    row = {"state": "ready", "addresses": ["127.0.0.1:1"]}
    question = io.StringIO(json.dumps({"role": msgspec.to_builtins(role), "row": row}))
    answers = io.StringIO()
    answer(question, answers)
    (line,) = answers.getvalue().splitlines()
    found = Finding.from_map(json.loads(line))
    assert (found.subject, found.check, str(found.verdict)) == ("lab/echo", "listener", "fail")


def test_a_namespace_that_cannot_be_entered_is_told(tmp_path: Path) -> None:
    role = EchoConfig(name="lab/echo", namespace="nosuch-one")
    found = only(run_checks(list(inside_checks(tmp_path / "none", role, None))))
    assert (found.check, str(found.verdict)) == ("namespace", "fail")
    assert "no namespace 'nosuch-one'" in found.detail
