"""Entries in clients' files: the file is as before, but for the entry."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from random import Random

import pytest

from mcp_agentrun.cli.clients import CLIENTS, ClientFile, Server, jsonc
from mcp_agentrun.cli.terminal import print_diff
from mcp_agentrun.errors import AgentRunError
from tests.support.command_line import command

JSON_PLAIN = """{
  "globalShortcut": "Alt+Space",
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": ["-y", "server-filesystem", "/home/me"]
    }
  },
  "scale": 1.50
}
"""
JSON_COMMENTED = """// My settings
{
\t"theme": "dark", // at night
\t/* servers */
\t"SECTION": {
\t\t// the first one
\t\t"github": { "url": "https://example.com//mcp", }, // keep
\t\t"text": {"command": "a /* no comment */ b"}, /* and this */
\t},
\t"last": [1, 2,],
}
"""
CODEX = """# Codex
model = "o9"   # the good one

[mcp_servers.docs]
command = "npx"
args = [
  "-y",  # yes
  "docs-server",
]

# How much it may do.
[profiles.careful]
approval_policy = "untrusted"
"""
GOOSE = """# Goose
GOOSE_MODEL:   some-model   # spaces stay
extensions:
  # built in
  developer:
    bundled: true
    enabled: true
    args: [ a,  b ]
    type: builtin

  notes:
    description: |
      Two lines,
      # not a comment
    type: stdio
    cmd: 'notes'
# The end
GOOSE_MODE: smart_approve
"""


def before_of(name: str) -> str:
    client = CLIENTS[name]
    if client.format == "toml":
        return CODEX
    if client.format == "yaml":
        return GOOSE
    text = JSON_COMMENTED if client.format == "jsonc" else JSON_PLAIN
    return text.replace("SECTION", client.section[0]).replace("mcpServers", client.section[0])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def file_with(name: str, text: str) -> Path:
    path = CLIENTS[name].file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def without_lines(after: str, before: str) -> list[str]:
    """The lines of *after* that are not those of *before*, which must all be there, in their order."""
    added: list[str] = []
    rest = iter(before.splitlines())
    expected = next(rest, None)
    for line in after.splitlines():
        if expected is not None and line in (expected, f"{expected},"):
            expected = next(rest, None)
        else:
            added.append(line)
    assert expected is None, f"changed: {expected}"
    return added


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("name", CLIENTS)
def test_add_and_remove_change_nothing_else(name: str, newline: str) -> None:
    before = before_of(name).replace("\n", newline)
    path = file_with(name, before)
    path.chmod(0o640)
    added = command("client", "add", name, "--yes", "--", "--memory", "2g")
    assert added.returncode == 0, added.stderr
    after = path.read_bytes().decode()
    assert without_lines(after, before)
    assert "agentrun" in after
    assert after.count("\n") == after.count(newline)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.with_name(path.name + ".agentrun-backup").read_bytes().decode() == before
    again = command("client", "add", name, "--yes", "--", "--memory", "2g")
    assert "already has this entry" in again.stdout
    assert path.read_bytes().decode() == after
    changed = command("client", "add", name, "--yes", "--env", "A=b")
    assert changed.returncode == 0, changed.stderr
    assert "2g" not in path.read_bytes().decode()
    assert command("client", "remove", name, "--yes").returncode == 0
    assert path.read_bytes().decode() == before


@pytest.mark.parametrize("name", CLIENTS)
def test_a_file_that_does_not_exist_is_made(name: str) -> None:
    path = CLIENTS[name].file()
    assert command("client", "add", name, "--yes").returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listed = json.loads(command("client", "list", name, "--json").stdout)
    assert (listed["state"], listed["file"]) == ("added", str(path))
    assert command("client", "remove", name, "--yes").returncode == 0
    assert json.loads(command("client", "list", name, "--json").stdout)["state"] == "no entry"


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("cursor", "{}"),
        ("cursor", '{"a": 1, "mcpServers": {"x": {"command": "y"}}}'),
        ("cursor", '{\n  "mcpServers": {}\n}'),
        ("vscode", '{\n    "servers": { "x": {} }\n}\n'),
        ("vscode", '{\n    "servers": {\n        "x": {}, "y": {} }\n}'),
        ("zed", '\ufeff{ "context_servers": {\n // none yet\n} }'),
        ("opencode", '{ // begins\n "mcp": { "x": {}, // x\n\n // y\n "y": {} // y\n } }\n'),
        ("codex", ""),
        ("codex", 'model = "x"'),
        ("codex", '[mcp_servers]\n\n[mcp_servers."a.b"]\ncommand = "x"\n\n\n# end\n'),
        ("goose", "GOOSE_MODEL: x"),
        ("goose", "extensions: {}\nz: 1\n"),
        ("goose", "extensions:  # none\n\n  # more\n  a: {}"),
        ("goose", "extensions: {a: {type: builtin}, b: {}}\nz: 1\n"),
        ("goose", "extensions:\n    a:\n        type: builtin\n"),
    ],
)
def test_other_forms_of_a_file(name: str, before: str) -> None:
    path = file_with(name, before)
    section = CLIENTS[name].section[0]
    added = command("client", "add", name, "--yes")
    assert added.returncode == 0, added.stderr
    assert json.loads(command("client", "list", name, "--json").stdout)["state"] == "added"
    assert command("client", "remove", name, "--yes").returncode == 0
    after = path.read_bytes().decode()
    expected = before
    if name == "cursor" and before == "{}":
        expected = '{"mcpServers": {}}'
    elif before == "GOOSE_MODEL: x":
        expected = "GOOSE_MODEL: x\nextensions: {}\n"
    elif before == 'model = "x"':
        expected += "\n"
    assert after == expected, section


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("claude-desktop", '{\n  "a": 1, // no comments here\n}', "line 2, column 11: "),
        ("claude-desktop", '{\n  "a": 1,\n}', "line "),
        ("claude-code", '{"a": 1 "b": 2}', "line 1, column 9: expecting ','"),
        ("cursor", '{"a": }', "line 1, column 7: expecting value"),
        ("vscode", '{"a": "', "line 1, column 7: unterminated string"),
        ("zed", '{"a": [1, 2}', "line 1, column 12"),
        ("gemini", "[]", "line 1, column 1: expected an object"),
        ("gemini", '{"mcpServers": []}', "mcpServers is not an object"),
        ("codex", "a = 1\nb = \n", "line 2, column 5: invalid value"),
        ("codex", "mcp_servers = {}\n", "edited"),
        ("goose", "a: [1\nb: 2\n", "line 2"),
        ("goose", "- a\n", "expected a mapping"),
    ],
)
def test_a_file_that_is_not_valid_is_left_alone(name: str, text: str, where: str) -> None:
    path = file_with(name, text)
    refused = command("client", "add", name, "--yes")
    assert refused.returncode == 1
    assert "was left alone" in refused.stderr and where in refused.stderr and "Traceback" not in refused.stderr
    assert path.read_text() == text
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_nothing_is_written_without_consent(home: Path) -> None:
    path = file_with("cursor", JSON_PLAIN)
    dry = command("client", "add", "cursor", "--dry-run")
    assert dry.returncode == 0
    assert '+    "agentrun": {' in dry.stdout
    assert "\x1b" not in dry.stdout
    asked = command("client", "add", "cursor")
    assert (asked.returncode, "Give --yes" in asked.stderr) == (1, True)
    assert path.read_text() == JSON_PLAIN
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", sorted(set(CLIENTS) - {"claude-desktop"}))
def test_an_entry_for_http(name: str) -> None:
    arguments = ("--url", "http://127.0.0.1:8000/mcp", "--header", "Authorization: Bearer s3cret")
    added = command("client", "add", name, "--yes", *arguments)
    assert added.returncode == 0, added.stderr
    assert "s3cret" not in added.stdout
    entry = json.loads(command("client", "list", name, "--json").stdout)["entry"]
    key = {"gemini": "httpUrl", "windsurf": "serverUrl", "goose": "uri"}.get(name, "url")
    assert entry[key] == "http://127.0.0.1:8000/mcp"
    assert entry["http_headers" if name == "codex" else "headers"] == {"Authorization": "Bearer s3cret"}


def test_an_entry_names_its_command_by_an_absolute_path(home: Path) -> None:
    for name, client in CLIENTS.items():
        entry = client.stdio(Server(name="agentrun", command=("/bin/x", "-a"), environment={"B": "c"}))
        program = entry.get("command", entry.get("cmd"))
        assert (program[0] if isinstance(program, list) else program) == "/bin/x", name
        assert entry.get("env") or entry.get("envs") or entry.get("environment") == {"B": "c"}
    command("client", "add", "codex", "--yes")
    entry = json.loads(command("client", "list", "codex", "--json").stdout)["entry"]
    assert Path(entry["command"]).is_absolute() and Path(entry["command"]).exists()
    assert entry["startup_timeout_sec"] == 60


def test_what_only_a_server_over_http_or_only_one_that_is_started_has() -> None:
    for arguments in (
        ("cursor", "--header", "a:b"),
        ("cursor", "--url", "http://x/mcp", "--env", "A=b"),
        ("cursor", "--url", "http://x/mcp", "more"),
        ("cursor", "--env", "A"),
        ("nothing",),
    ):
        assert command("client", "add", "--yes", *arguments).returncode == 2
    refused = command("client", "add", "claude-desktop", "--url", "http://x/mcp")
    assert (refused.returncode, "Connectors" in refused.stderr) == (1, True)


def test_a_link_stays_a_link_and_another_file_can_be_named(home: Path) -> None:
    real = home / "dotfiles.json"
    real.write_text("{}\n")
    path = home / "project" / "mcp.json"
    path.parent.mkdir()
    path.symlink_to(real)
    assert command("client", "add", "cursor", "--yes", "--file", str(path)).returncode == 0
    assert path.is_symlink()
    assert "agentrun" in real.read_text()
    real.unlink()
    real.symlink_to(path)
    refused = command("client", "add", "cursor", "--yes", "--file", str(path))
    assert (refused.returncode, "can't be read: Too many levels of symbolic links" in refused.stderr) == (1, True)


def test_a_file_that_changes_meanwhile_is_not_overwritten() -> None:
    path = file_with("cursor", "{}")
    opened = ClientFile(CLIENTS["cursor"], path)
    path.write_text('{"a": 1}')
    with pytest.raises(AgentRunError, match="has changed in the meantime"):
        opened.write(opened.with_entry("agentrun", {"command": "x"}))
    assert path.read_text() == '{"a": 1}'


def test_a_file_that_appears_meanwhile_is_not_overwritten(home: Path) -> None:
    path = home / "new.json"
    opened = ClientFile(CLIENTS["cursor"], path)
    path.write_text('{"a": 1}')
    with pytest.raises(AgentRunError, match="has changed in the meantime"):
        opened.write(opened.with_entry("agentrun", {"command": "x"}))
    assert [each.name for each in home.iterdir()] == ["new.json"]
    assert path.read_text() == '{"a": 1}'


def test_a_file_that_may_not_be_looked_at_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    listed = command("client", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.count("unreadable") == len(CLIENTS)


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_secrets_are_masked_and_nothing_else(name: str) -> None:
    variables = ("--env", "KEY=s3cret-key", "--env", "N=1")
    for shown in (
        command("client", "add", name, "--yes", *variables),
        command("client", "add", name, "--yes", "--env", "N=2", "--", "--cpus", "1"),
        command("client", "add", name, "--yes", *variables, "--", "--cpus", "1"),
        command("client", "remove", name, "--yes"),
    ):
        assert shown.returncode == 0, shown.stderr
        assert "s3cret" not in shown.stdout and "***" in shown.stdout
        assert "@@ " in shown.stdout and "," in shown.stdout and "*,*" not in shown.stdout


def test_values_are_masked_in_their_place_only() -> None:
    variables = ("--env", "X=1", "--env", "FOLDER=/usr/bin")
    shown = command("client", "add", "cursor", "--yes", *variables, "--", "--cpus", "1", "--data", "/usr/bin").stdout
    lines = [line.lstrip("+ ") for line in shown.splitlines()]
    assert '"X": "***",' in lines and '"FOLDER": "***"' in lines
    assert '"1",' in lines and '"/usr/bin"' in lines


@pytest.mark.parametrize(
    "written",
    [
        'X: "s3cret, 1"',
        "X: 's3cret, 1'",
        "X: s3cret, 1",
        '"X" : "s3cret, 1",',
        "env = { 'X' = 's3cret, 1' }",
        "{ Y: 2, X: s3cret, 1 }",
        'env.X = "s3cret, 1" # x',
        "    s3cret, 1",
        'X = """s3cret, 1',
        r'"X": "s3cret\u002c 1"',
    ],
)
def test_a_value_is_masked_however_it_is_written(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_diff(f"a\n{written}\n", f"b\n{written}\n", "file", secrets=[("X", "s3cret, 1")])
    shown = capsys.readouterr().out
    assert "s3cret" not in shown and "***" in shown
    assert ("Y: 2" in shown) == ("Y: 2" in written)


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_what_the_user_has_added_to_an_entry_is_kept(name: str) -> None:
    client = CLIENTS[name]
    first = client.stdio(Server(name="agentrun", command=("old",), environment={"A": "1", "B": "2"}))
    variables = next(key for key in ("env", "envs", "environment") if key in first)
    mine = {"disabled_tools": ["x"], "mine": {"deep": {"n": 1.5}, "list": [1, "a"]}, "since": True}
    opened = ClientFile(client, file_with(name, before_of(name)))
    opened.write(opened.with_entry("agentrun", {**first, **mine}))
    assert command("client", "add", name, "--yes", "--env", "B=3").returncode == 0
    entry = ClientFile(client, client.file()).entry("agentrun")
    assert entry is not None
    assert entry[variables] == {"A": "1", "B": "3"}
    assert {key: entry[key] for key in mine} == mine
    assert "old" not in json.dumps(entry)
    if client.http is not None:
        assert command("client", "add", name, "--yes", "--url", "http://127.0.0.1:8000/mcp").returncode == 0
        entry = ClientFile(client, client.file()).entry("agentrun")
        assert entry == {**client.http(Server(name="agentrun", url="http://127.0.0.1:8000/mcp")), **mine}


def test_a_date_in_an_entry_is_kept_or_the_file_left_alone() -> None:
    codex = file_with("codex", "[mcp_servers.agentrun]\ncommand = 'x'\nsince = 2026-01-02\nnest = [{a.b = inf}]\n")
    assert command("client", "add", "codex", "--yes").returncode == 0
    assert "since = 2026-01-02\n" in codex.read_text() and "nest = [{a = {b = inf}}]\n" in codex.read_text()
    file_with("goose", "extensions:\n  agentrun:\n    since: 2026-01-02\n")
    refused = command("client", "add", "goose", "--yes")
    assert (refused.returncode, "can't be edited safely" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "nonsense"), "is not a URL such as"),
        (("--url", ""), "is not a URL such as"),
        (("--url", "ftp://example.com/mcp"), "is not a URL such as"),
        (("--url", "http://"), "is not a URL such as"),
        (("--url", "http://x:99999/"), "is not a URL such as"),
        (("--entry", ""), "a name is required"),
        (("--entry", " "), "a name is required"),
        (("--", "--memroy", "2g"), "No such option '--memroy'"),
        (("--", "--memory", "lots"), "memory (flag)"),
        (("--", "serve"), "unexpected extra argument (serve)"),
    ],
)
def test_an_entry_that_can_not_work_is_refused(arguments: tuple[str, ...], message: str, home: Path) -> None:
    refused = command("client", "add", "cursor", "--yes", *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not list(home.iterdir())


@pytest.mark.parametrize("name", ["cursor", "claude-desktop", "codex", "goose"])
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "a = " + "[" * 100_000, "a: " + "[" * 100_000, '{"a": ' + "1" * 5000 + "}"],
    ids=["list", "object", "toml", "yaml", "number"],
)
def test_a_file_that_no_parser_takes_is_invalid(name: str, text: str) -> None:
    path = file_with(name, text)
    refused = command("client", "add", name, "--yes")
    assert (refused.returncode, "was left alone" in refused.stderr) == (1, True), refused.stderr
    listed = json.loads(command("client", "list", name, "--json").stdout)
    assert listed["state"] in ("unreadable", "no entry")
    assert path.read_text() == text


@pytest.mark.skipif(os.name == "nt", reason="has other devices")
def test_only_regular_files_of_a_sensible_size_are_read(home: Path) -> None:
    pipe, large = home / "pipe", home / "large"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(1 << 30)
    for path, reason in (
        (Path("/dev/full"), "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (pipe, "not a regular file"),
        (large, "more than 10 MiB"),
    ):
        refused = command("client", "add", "cursor", "--yes", "--file", str(path))
        assert (refused.returncode, reason in refused.stderr) == (1, True)


def test_yaml_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    refused = command("client", "add", "goose", "--yes")
    assert refused.returncode == 1
    assert "pip install) 'mcp-agentrun[clients]'" in refused.stderr
    assert json.loads(command("client", "list", "goose", "--json").stdout)["state"] == "no file"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_where_files_are(platform: str, home: Path) -> None:
    for name, client in CLIENTS.items():
        assert client.file({}, platform).is_relative_to(home), name
    environ = {"APPDATA": "/data", "XDG_CONFIG_HOME": "/xdg", "CODEX_HOME": "/codex"}
    assert CLIENTS["codex"].file(environ, platform) == Path("/codex/config.toml")
    assert CLIENTS["vscode"].file(environ, platform) == {
        "linux": Path("/xdg/Code/User/mcp.json"),
        "darwin": home / "Library/Application Support/Code/User/mcp.json",
        "win32": Path("/data/Code/User/mcp.json"),
    }[platform]  # fmt: skip


_SPACE = ["", " ", "\n", "\n\t", "  ", ' // a, {b}: "c\n', "/* } */", "\n  /* [\n */ "]
_SCALAR = ["1", "-2.50", "true", "null", '"x"', '"a\\"b // c"', '"ü"', "[]", "{}"]


def random_document(chance: Random, keys: tuple[str, ...] = ("a", "b", "mcpServers"), depth: int = 2) -> str:
    """An object of JSON with comments, trailing commas and whatever white space."""
    members: list[str] = []
    for key in chance.sample(keys, chance.randint(0, 3)):
        is_object = key == "mcpServers" or (depth and chance.random() < 0.5)
        value = random_document(chance, ("x", "y", "é"), depth - 1) if is_object else chance.choice(_SCALAR)
        before, between, after, end = (chance.choice(_SPACE) for _ in range(4))
        members.append(f'{before}"{key}"{between}:{after}{value}{end}')
    trailing = "," if members and chance.random() < 0.5 else ""
    return "{" + ",".join(members) + trailing + chance.choice(_SPACE) + "}"


def test_no_form_of_json_changes_but_for_the_entry() -> None:
    for seed in range(1000):
        require_only_the_entry_to_change(random_document(Random(seed)))


def require_only_the_entry_to_change(text: str) -> None:
    path = ("mcpServers", "agentrun")
    entry = {"command": "/bin/x", "args": ["-a"]}
    before = jsonc.parse(text)
    added = jsonc.put(text, path, entry)
    data = jsonc.parse(added)
    servers = before.get("mcpServers", {})
    assert data == {**before, "mcpServers": {**servers, "agentrun": entry}}
    rest = iter(added)
    assert all(char in rest for char in text)  # nothing is lost, and the order stays
    assert jsonc.parse(jsonc.put(added, path, {})) == {**before, "mcpServers": {**servers, "agentrun": {}}}
    removed = jsonc.remove(added, path)
    assert jsonc.parse(removed) == {**before, "mcpServers": servers}
    if servers:
        assert removed == text
