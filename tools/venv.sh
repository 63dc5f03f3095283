#!/bin/sh
# tools/venv.sh PYTHON FOLDER: make FOLDER a virtual environment of PYTHON that holds the packages of
# requirements/dev.txt and this project, installed in editable mode. Does nothing if FOLDER is up to date.
set -eu
cd "$(dirname "$0")/.."
python=$1 folder=$2
# An editable install names this folder, so that a copy of the environment elsewhere is out of date.
stamp="$PWD $(cat pyproject.toml requirements/dev.txt | cksum)"
if [ "$(cat "$folder/installed" 2>/dev/null)" = "$stamp" ] && "$folder/bin/python" -c '' 2>/dev/null; then exit; fi
echo "setup: installing the project into $folder" >&2
"$python" -m venv --clear "$folder"
pip() { "$folder/bin/python" -m pip --quiet --quiet --disable-pip-version-check "$@"; }
sed -n '/^uv==/,/[^\\]$/p' requirements/dev.txt >"$folder/uv.txt"
pip install --require-hashes --requirement "$folder/uv.txt"
# uv takes a tenth of pip's time, but does not read pip's configuration, which may name an index or certificates.
uv() { "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" "$@"; }
uv --require-hashes --requirement requirements/dev.txt 2>/dev/null ||
    pip install --require-hashes --requirement requirements/dev.txt
pip install --no-deps --no-build-isolation --editable .
echo "$stamp" >"$folder/installed"
