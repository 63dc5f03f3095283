"""Data about well-known distributions, and the modules they provide."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from packaging.utils import canonicalize_name

__all__ = ["ALTERNATIVES", "ESTABLISHED", "MODULES", "UNMET_NEEDS", "WELL_KNOWN"]

# Name, version, date and importable top-level modules, read from installed wheels by `make known-packages`.
_ROWS = [
    line.split("\t")
    for line in Path(__file__).with_name("known.tsv").read_text("utf-8").splitlines()
    if not line.startswith("#")
]

WELL_KNOWN: frozenset[str] = frozenset(row[0] for row in _ROWS)
"""Distributions that are installed automatically when code imports them."""

UNMET_NEEDS: dict[str, str] = {
    "cmdstanpy": "CmdStan, which is compiled code; pymc does without",
    "gitpython": "the program git, without which it can't be imported; dulwich does without",
    "graphviz": "the program dot; its sources can be written, and networkx draws with matplotlib",
    "kaleido": "a Chrome browser",
    "keras": "a backend; install tensorflow, jax or torch as well",
    "mesa": "networkx, which it does not name as required: install networkx as well",
    "pdf2image": "the programs of poppler; pymupdf turns pages into pictures without",
    "pydot": "the program dot, for drawing; networkx draws with matplotlib",
    "pydub": "audioop-lts, which it does not name as required, and the program ffmpeg, except for WAV files",
    "pyperclip": "a clipboard",
    "pytesseract": "the program tesseract",
}
"""What a distribution's main purpose needs and a sandbox does not have, for the answer to an installation."""

ALTERNATIVES: dict[str, str] = {
    "jieba": "rjieba",
    "langdetect": "py3langid",
    "mysqlclient": "pymysql",
    "odfpy": "python-calamine, which reads .ods files",
    "pkg-resources": "setuptools<82, whose later releases don't have it",
    "pycairo": "cairocffi",
    "python-louvain": "networkx, whose networkx.community.louvain_communities does the same",
}
"""Alternatives to distributions without wheels."""

_CHOSEN: dict[str, str] = {
    "MySQLdb": "mysqlclient",
    "audioop": "audioop-lts",
    "cairo": "pycairo",
    "cgi": "legacy-cgi",
    "cgitb": "legacy-cgi",
    "community": "python-louvain",
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "git": "gitpython",
    "magic": "python-magic",
    "mpl_finance": "mplfinance",
    "odf": "odfpy",
    "psycopg2": "psycopg2-binary",
    "pyaudioop": "audioop-lts",
    "stan": "pystan",
}
"""Modules that several distributions provide, with one that works here; and modules that no wheel lists."""


def _modules() -> dict[str, str]:
    count = Counter(module for row in _ROWS for module in row[3].split())
    found = {module: row[0] for row in _ROWS for module in row[3].split() if count[module] == 1}
    named = {module: name for module, name in found.items() if canonicalize_name(module) not in {name, *WELL_KNOWN}}
    return named | _CHOSEN


MODULES: dict[str, str] = _modules()
"""Distribution by top-level module, where the names differ by more than case, hyphens and underscores."""

ESTABLISHED: frozenset[str] = frozenset(
    """
    aiofile antropy arc4 argh astrapy authlib blosc boto bpython cchardet cdflib crick cssselect2 ctransformers
    cwcwidth dataset datazets deepdiff6 demoji dhash djongo dparse dydantic ecoji efinance eido faiss-gpu fastai
    grequests gsutil hjson htpy httpr httpx2 ijson ipytest itables jaxlie jsonpath lkml marko motor myjwt ngboost
    openapi paramz parsel parsl parsy pathy pins poml pqdm psycopg-binary pyais pyaml pyasn pyats pydlt pydo pydoe
    pydomo pygad pygam pygdal pyld pymantic pymc3 pymssql pyocd pyop pypdf3 pystac pyston pytd pyte pyvim pyvips
    pyvisa retworkx rtoml scapy scipp scrypt sdkit sparse spython sqlglotc stqdm tensorboardx tombi tools tooz
    torchx trie trino unicorn usort vyper wandb willow wimpy xoto3 yaql yarg
    """.split()  # noqa: SIM905
)
"""Names that resemble a well-known one but belong to other established packages.

They are among the 15,000 most downloaded distributions of November 2026 and had a release in the last five years, or
are among the first 2,000. httpx2 was added for its 22 releases and its dependents.
"""
