"""The documentation is true: its links lead somewhere, its commands exist, its examples load.

`test_reference.py` holds its tables against the code, `e2e/test_docs.py` runs its programs.
"""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from netns.topology_map import parse_topology
from tests.docpages import (
    PAGES,
    ROOT,
    Block,
    check_command,
    every_page,
    in_language,
    our_commands,
    prompted_lines,
    read,
)
from tunneld import secretsfile
from tunneld.configfile import load_config, load_roles
from tunneld.registrar import Registrar
from tunneld.secret import of_token

UNITS = sorted((ROOT / "docs").rglob("*.service"))

# -- links ------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "", text)


def anchors_of(page: Path) -> set[str]:
    """As code hosts make them: lower case, punctuation dropped, blanks to hyphens."""
    text = re.sub(r"^( *)```.*?^\1```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", every_page())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(re.sub(r"\[`[^`]*`\]", "[x]", read(page))))
    for link in links:
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if parts.fragment:
            assert parts.fragment in anchors_of(target), link


def test_every_page_can_be_found_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "docs/index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for link in re.findall(r"\]\(([^)#\s:]+\.md)", read(page)):
            waiting.append((page.parent / link).resolve())
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= seen


@pytest.mark.parametrize("page", every_page())
def test_nothing_is_about_the_machine_that_wrote_it(page: Path) -> None:
    found = re.findall(r"/root\b|/home/(?!USER|you)\w+|/tmp/[a-z]+\.|TODO|FIXME", read(page))
    assert not found


# -- commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("block", in_language("console"))
def test_commands_in_sessions_exist(block: Block) -> None:
    commands = list(prompted_lines(block.text))
    assert commands, "a console block without a prompt"
    for line in commands:
        for words in our_commands(line):
            check_command(words)


@pytest.mark.parametrize("block", in_language("sh", "ssh", "ini"))
def test_commands_in_scripts_and_settings_exist(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        for found in re.finditer(r"\b(tunneld|tunnelctl) (?=[a-z-])[^#>]*", line):
            for words in our_commands(found[0].replace("'", "")):
                check_command(words)


@pytest.mark.parametrize("page", every_page())
def test_commands_in_prose_exist(page: Path) -> None:
    program = r"tunneld|tunnelctl|proxy-server|proxy-agent"
    for code in re.findall(rf"`((?:{program}) [a-z-][^`\n]*)`", read(page)):
        for words in our_commands(code.replace("…", "")):
            check_command(words)


@pytest.mark.parametrize("unit", [pytest.param(unit, id=unit.name) for unit in UNITS])
def test_units_run_commands_that_exist(unit: Path) -> None:
    lines = re.findall(r"^Exec\w+=(.*)$", read(unit), flags=re.MULTILINE)
    commands = [words for line in lines for words in our_commands(line)]
    assert len(commands) == len(lines) > 0
    for words in commands:
        check_command(words)


@pytest.mark.parametrize(
    "line",
    [
        "tunnelctl nope",
        "tunnelctl http --nope URL",
        "tunnelctl certs issue --nope",
        "x | tunneld nope",
        "proxy-server --nope",
        "proxy-agent --sync-interval=soon $MORE",
    ],
)
def test_the_check_refuses_what_does_not_exist(line: str) -> None:
    (words,) = our_commands(line)
    with pytest.raises(AssertionError):
        check_command(words)


def test_the_command_reference_is_up_to_date() -> None:
    argv = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


# -- examples ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("etc") / "pki"
    registrar = Registrar(directory)
    registrar.init(["edge.example.org"], "home")
    registrar.refresh_lists()
    secretsfile.add(directory.parent / "secrets", of_token("home", "tnl_home"))
    (directory.parent / "home.token").write_text("tnl_home\n")
    return directory


@pytest.mark.parametrize("block", in_language("toml"))
def test_toml_examples_load(block: Block, pki: Path) -> None:
    text = block.text
    if "[[namespace]]" in text:
        topology = parse_topology(tomllib.loads(text.replace("${pki}", str(pki))))
        roles = [dict(role) for role in topology.roles]
        assert load_roles(roles, pki.parent, source=block.id, at="role")
        return
    for folder in ("frontend", "agent"):  # as they lie on one host, where pki/ was taken apart
        link = pki.parent / folder
        if not link.exists():
            link.symlink_to(pki / folder)
    file = pki.parent / "example.toml"
    file.write_text(text)
    assert load_config(file).role or "[[role]]" not in text


@pytest.mark.parametrize("block", in_language("python"))
def test_python_examples_compile_and_import_what_exists(block: Block) -> None:
    tree = ast.parse(block.text, block.id)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    code = compile(ast.Module(body=list(imports), type_ignores=[]), block.id, "exec")
    for module in {"grpc", "httpcore", "httpx"} & _modules(imports):
        pytest.importorskip(module)
    exec(code, {})


def _modules(imports: list[ast.Import | ast.ImportFrom]) -> set[str]:
    names = {alias.name for node in imports for alias in node.names}
    return names | {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
