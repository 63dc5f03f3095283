"""An operator's rules about packages, and what is known of names. Pure."""

from __future__ import annotations

import re
from typing import Any

import pytest
from mcp.types import CallToolResult, TextContent
from packaging.utils import canonicalize_name

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.errors import InstallError, InvalidRequestError, SettingsError
from mcp_agentrun.packages.installation import Installation
from mcp_agentrun.packages.installer import Installed
from mcp_agentrun.packages.known import ALTERNATIVES, ESTABLISHED, MODULES, UNMET_NEEDS, WELL_KNOWN
from mcp_agentrun.packages.names import distribution_of, similar_known_name
from mcp_agentrun.packages.policy import Constraints, PackageRule, Policy, combine, is_satisfied, parse_requirements
from mcp_agentrun.server.mcp.render import install_answer
from mcp_agentrun.settings import load_settings
from mcp_agentrun.wire.messages import InstallDone


def policy(*, allow: tuple[str, ...] = ("*",), deny: tuple[str, ...] = (), most: int = 200) -> Policy:
    return Policy(
        allow=tuple(map(PackageRule.parse, allow)), deny=tuple(map(PackageRule.parse, deny)), max_packages=most
    )


@pytest.mark.parametrize(
    ("allow", "deny", "name", "is_allowed"),
    [
        (("*",), (), "anything", True),
        ((), (), "numpy", False),
        (("numpy",), (), "pandas", False),
        (("Scikit_Learn",), (), "scikit-learn", True),
        (("django-*",), (), "Django_Extensions", True),
        (("*",), ("django-*",), "django.extensions", False),
        (("*",), ("django<4",), "django", True),  # its version is judged when it is known
        (("numpy",), ("*",), "numpy", False),
    ],
)
def test_what_may_be_asked_for(allow: tuple[str, ...], deny: tuple[str, ...], name: str, is_allowed: bool) -> None:
    rules = policy(allow=allow, deny=deny)
    if is_allowed:
        rules.check_requested([name])
    else:
        with pytest.raises(InvalidRequestError, match="server's"):
            rules.check_requested([name])


@pytest.mark.parametrize(
    ("allow", "deny", "pins", "refusal"),
    [
        (("*",), ("bad<2",), {"a": "1", "bad": "1.9"}, "bad 1.9, which what you asked for depends on, is denied"),
        (("*",), ("bad<2",), {"a": "1", "bad": "2.0"}, None),
        (("*",), ("a==1.*",), {"a": "1.4rc1"}, "a 1.4rc1 is denied"),
        (("a<2",), (), {"a": "2.0"}, "a 2.0 is not allowed on this server; allowed: a<2"),
        (("a",), (), {"a": "2.0", "dependency": "1"}, None),
    ],
)
def test_what_has_been_resolved_is_judged(
    allow: tuple[str, ...], deny: tuple[str, ...], pins: dict[str, str], refusal: str | None
) -> None:
    said = policy(allow=allow, deny=deny).check_resolved(["a"], pins)
    assert said == refusal or (refusal is not None and said is not None and refusal in said)


def test_limits_on_count_and_hashes() -> None:
    assert "2 packages" in (policy(most=1).check_resolved(["a"], {"a": "1", "b": "1"}) or "")
    text = "a==1 --hash=sha256:" + "0" * 64 + " \\\n  --hash=sha256:" + "1" * 64 + "\nb<3  # why\n\n# nothing\n"
    constraints = Constraints.parse(text)
    assert constraints.lines == ("a==1", "b<3")
    strict = Policy(constraints=constraints, require_hashes=True)
    assert strict.check_resolved(["a"], {"a": "1"}) is None
    assert "no hash for b 2" in (strict.check_resolved(["a"], {"a": "1", "b": "2"}) or "")
    for version in ("1.0", "1.0.0", "1"):
        assert constraints.hashes_of("A", version) == ("sha256:" + "0" * 64, "sha256:" + "1" * 64)
    lax = Policy(constraints=constraints, urls=True)
    assert lax.check_resolved(["a"], {"a": "1.0", "b": "2"}) is None
    for version in ("1+local", "1.1", "@ https://example.org/a-1-py3-none-any.whl"):
        assert f"no hash for a {version}" in (lax.check_resolved(["a"], {"a": version}) or "")
    for line in ("a", "a>=1", "a==1.*", "a==1,==1.1", "a===1", "a @ https://example.org/a-1-py3-none-any.whl"):
        with pytest.raises(SettingsError, match="not one version"):
            Constraints.parse(f"{line} --hash=sha256:{'0' * 64}")
    twice = Constraints.parse("".join(f"a==1; os_name{sign}'nt' --hash=sha256:{'0' * 64}\n" for sign in ("==", "!=")))
    assert len(twice.hashes_of("a", "1")) == 2
    with pytest.raises(SettingsError, match="not a requirement"):
        Constraints.parse("--index-url https://example.org")


def test_ranges_that_are_allowed_guide_the_resolver() -> None:
    assert policy(allow=("pandas<3", "numpy", "django-*<5", "six<1", "six>2")).resolver_constraints() == ("pandas<3",)


@pytest.mark.parametrize("rule", ["", "a b", "a<<2", "-e x", "a; python_version<'3'", "https://example.org"])
def test_malformed_rules(rule: str) -> None:
    with pytest.raises(SettingsError, match="not a package rule"):
        PackageRule.parse(rule)


def test_rules_in_the_environment() -> None:
    settings = load_settings(environ={"AGENTRUN_PACKAGES_ALLOW": "django>=4,<5, numpy", "AGENTRUN_PACKAGES_DENY": ""})
    assert settings.packages.allow == ("django>=4,<5", "numpy")
    assert settings.packages.deny == ()
    for age in ("soon", "7", "7 days; x"):
        with pytest.raises(SettingsError, match="packages_exclude_newer"):
            load_settings(environ={"AGENTRUN_PACKAGES_EXCLUDE_NEWER": age})
    settings = load_settings(environ={"AGENTRUN_PACKAGES_EXCLUDE_NEWER": "7 days"})
    assert settings.packages.exclude_newer == "7 days"


def test_urls_only_where_the_operator_allows_them() -> None:
    asked = "x @ https://example.org/x-1-py3-none-any.whl"
    assert parse_requirements(asked, urls=True) == (asked,)
    for refused in ("x @ file:///etc/passwd", "x @ git+https://example.org/x.git", "./x", "-e x"):
        with pytest.raises(InvalidRequestError):
            parse_requirements(refused, urls=True)


def test_requirements_that_follow_each_other() -> None:
    assert combine(["x==1", "y"], ["X"]) == ("x==1", "y")
    assert combine(["x==1", "y"], ["X==2"]) == ("X==2", "y")
    assert combine(["x"], ["x[more]"]) == ("x[more]",)
    marked = 'x; sys_platform == "win32"'
    assert combine(["x==1"], [marked]) == ("x==1", marked)
    assert combine([marked], ["x"]) == (marked, "x")
    assert combine([marked], [marked]) == (marked,)


@pytest.mark.parametrize("text", ["six 1.16.0", "six v1.16.0", "  six   1.16.0 "])
def test_a_version_without_a_sign_is_no_name(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"Did you mean 'six==1\.16\.0'\?"):
        parse_requirements(text)


@pytest.mark.parametrize("module", ["imp", "distutils", "tkinter", "telnetlib"])
def test_what_is_python_s_own_is_not_looked_for_in_the_index(module: str) -> None:
    assert "install_package" not in Policy().advice(module)
    assert "no package" not in Policy().advice(module)
    assert Policy().auto_installable([module], "all") == ()


@pytest.mark.parametrize(
    ("module", "name"), [("audioop", "audioop-lts"), ("cgi", "legacy-cgi"), ("cgitb", "legacy-cgi")]
)
def test_what_was_python_s_own_and_is_a_package_now_is_installed(module: str, name: str) -> None:
    assert f"install_package('{name}')" in Policy().advice(module)
    assert Policy().auto_installable([module], "known") == (name,)


@pytest.mark.parametrize(
    ("requirement", "satisfied"),
    [("A-b>=1", True), ("a_b<1", False), ("a.b", True), ("a-b[more]", False), ("c", False), ("a-b; extra=='x'", False)],
)
def test_satisfied_by_what_is_there(requirement: str, satisfied: bool) -> None:
    assert is_satisfied(requirement, {"a-b": "1.2"}) is satisfied


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("reqeusts", "requests"),
        ("request", "requests"),
        ("python_dateutils", "python-dateutil"),
        ("sklearn", "scikit-learn"),
        ("beautifulsoup", "beautifulsoup4"),
        ("Numpyy", "numpy"),
        ("pandas", None),
        ("cowsay", None),
        ("six2", None),  # too short to tell
        ("markdown2", None),
        ("httpx2", None),
        ("PyMC3", None),
        ("boto", None),
        ("pyts", None),
        ("torchx", None),
        ("tdqm", "tqdm"),  # downloaded often, by this slip
    ],
)
def test_look_alikes(name: str, meant: str | None) -> None:
    assert similar_known_name(name) == meant


@pytest.mark.parametrize("name", ["reqeusts", "sklearn", "tdqm", "Numpyy"])
def test_a_look_alike_is_let_through_as_the_answer_says(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="install '") as refused:
        policy().check_requested([name])
    (said,) = re.findall("install '(.*)'", str(refused.value))
    policy().check_requested(parse_requirements(said))
    policy().check_requested(parse_requirements(f"{said},<9"))
    with pytest.raises(InvalidRequestError):
        policy().check_requested([f"{name}>=1,<9"])
    with pytest.raises(InvalidRequestError, match="denied"):
        policy(deny=(name,)).check_requested(parse_requirements(said))


@pytest.mark.parametrize(
    ("module", "instead"),
    [
        ("jieba", "rjieba"),
        ("MySQLdb", "pymysql"),
        ("community", "networkx"),
        ("odf", "calamine"),
        ("pkg_resources", "setuptools<82"),
    ],
)
def test_for_what_has_no_wheel_another_package_is_named(module: str, instead: str) -> None:
    assert policy().auto_installable([module], "known") == ()
    assert instead in policy().advice(module)
    policy().check_requested([distribution_of(module)])


@pytest.mark.parametrize("name", sorted(UNMET_NEEDS))
def test_the_answer_to_an_installation_says_what_is_lacking(name: str) -> None:
    (line,) = _texts(install_answer(Installed("", ((name, "1.0"),), ())))
    assert line.startswith(f"Installed, ready to import: {name} 1.0.\n")
    assert UNMET_NEEDS[name] in line
    (line,) = _texts(install_answer(Installed("", (), ((name, "1.0"),))))
    assert UNMET_NEEDS[name] not in line


def _texts(answer: CallToolResult) -> list[str]:
    return [part.text for part in answer.content if isinstance(part, TextContent)]


@pytest.mark.parametrize("name", sorted(ALTERNATIVES))
def test_where_there_is_no_wheel_the_error_names_another_package(name: str) -> None:
    request: Any = None
    installation = Installation(
        request,
        "a" * 32,
        [f"{name}>=1"],
        policy=policy(),
        trusted=(),
        network=NetworkSettings(),
        report=lambda _: None,
    )
    for error, is_told in (("all versions have no usable wheels", True), ("the volume is full", False)):
        done = InstallDone(request=1, sandbox="a" * 32, error=error)
        with pytest.raises(InstallError) as raised:
            installation._result(done)  # pyright: ignore[reportPrivateUsage]
        assert (ALTERNATIVES[name] in str(raised.value)) is is_told


def test_the_data_sets_are_sound() -> None:
    assert all(canonicalize_name(name) == name for name in WELL_KNOWN)
    assert set(MODULES.values()) <= WELL_KNOWN | ALTERNATIVES.keys() | UNMET_NEEDS.keys()
    assert WELL_KNOWN.isdisjoint(ALTERNATIVES)
    assert all(canonicalize_name(name) == name for name in ESTABLISHED)
    assert ESTABLISHED.isdisjoint({*WELL_KNOWN, *map(canonicalize_name, MODULES)}), "no news"
    assert 300 <= len(WELL_KNOWN) <= 500
    assert all(canonicalize_name(module) != canonicalize_name(name) for module, name in MODULES.items()), "no news"
    rules = policy()
    rules.check_requested(WELL_KNOWN)


IMPORTS = """
PIL pillow, bs4 beautifulsoup4, cv2 opencv-python-headless, sklearn scikit-learn, skimage scikit-image, yaml pyyaml,
dateutil python-dateutil, docx python-docx, pptx python-pptx, dotenv python-dotenv, fitz pymupdf, jwt pyjwt, Crypto
pycryptodome, nacl pynacl, OpenSSL pyopenssl, serial pyserial, usb pyusb, zmq pyzmq, attr attrs, psycopg2
psycopg2-binary, imblearn imbalanced-learn, umap umap-learn, pywt pywavelets, skopt scikit-optimize, faiss
faiss-cpu, stan pystan, magic python-magic, slugify python-slugify, websocket websocket-client, socks pysocks,
telegram python-telegram-bot, jose python-jose, dns dnspython, grpc grpcio,
box python-box, pdfminer pdfminer-six, cpuinfo py-cpuinfo, rpds rpds-py, argon2 argon2-cffi, markdown_it
markdown-it-py, z3 z3-solver, Bio biopython, absl absl-py, rest_framework djangorestframework, ruamel ruamel-yaml,
mpl_toolkits matplotlib, pylab matplotlib, pythonjsonlogger python-json-logger, Cryptodome
pycryptodomex
"""
"""Modules whose distribution has another name, of those that models write."""

SAME = """
requests numpy pandas scipy matplotlib seaborn plotly bokeh altair statsmodels sympy networkx xgboost lightgbm
catboost torch torchvision torchaudio tensorflow keras transformers datasets tokenizers nltk spacy gensim textblob
polars pyarrow duckdb dask openpyxl xlsxwriter xlrd xlwt lxml html5lib httpx aiohttp flask django fastapi sqlalchemy
pymongo redis psutil tqdm rich tabulate click typer pydantic jinja2 IPython Levenshtein PyPDF2 pypdf pdfplumber
reportlab qrcode faker pytz arrow pendulum geopandas shapely folium rasterio numba cython joblib dill numexpr imageio
librosa soundfile wordcloud emoji regex thefuzz rapidfuzz sentence_transformers prometheus_client charset_normalizer
typing_extensions flask_cors email_validator jsonschema cryptography bcrypt paramiko_is_not_there
"""


def test_modules_lead_to_their_distributions() -> None:
    for pair in IMPORTS.split(","):
        module, name = pair.split()
        assert (distribution_of(module), name in WELL_KNOWN) == (name, True), module
    *same, absent = SAME.split()
    for module in same:
        assert policy().auto_installable([module], "known") == (canonicalize_name(module),)
    assert policy().auto_installable([absent], "known") == ()


def test_automatic_installation() -> None:
    modules = ["sklearn", "unheard_of", "reqeusts", "yaml"]
    assert policy().auto_installable(modules, "known") == ("scikit-learn", "pyyaml")
    assert policy().auto_installable(modules, "off") == ()
    assert policy().auto_installable(modules, "all") == ("scikit-learn", "unheard-of", "pyyaml")
    assert policy().auto_installable(["_private", "__builtin__", "\u00e9t\u00e9", "x" * 500, "yaml"], "all") == (
        "pyyaml",
    )
    assert policy(allow=("unheard-*",)).auto_installable(modules, "known") == ("unheard-of",)
    assert policy(deny=("pyyaml",)).auto_installable(modules, "known") == ("scikit-learn",)
