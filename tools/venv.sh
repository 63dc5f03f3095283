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
pip install --require-hashes --requirement requirements/dev.txt
pip install --no-deps --no-build-isolation --editable .
echo "$stamp" >"$folder/installed"
