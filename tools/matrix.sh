#!/usr/bin/env bash
# tools/matrix.sh [ARGUMENTS OF PYTEST]: run the unit tests on each supported version of Python that can be had here.
#
# An interpreter comes from PATH or pyenv. The newest is also in Debian's testing release: as root, with mmdebstrap, a
# tree of that release is made under .matrix, and the tests run in it by chroot.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSIONS="3.10 3.11 3.12 3.13 3.14"
TESTS=("${@:-tests/unit}")
missing="" failed=""

find_python() {
    local python
    for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$python" -m ensurepip --version >/dev/null 2>&1; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# A tree of Debian's testing release that has Python $1, in folder $2.
debian_python() {
    if [ "$(id -u)" != 0 ] || ! command -v mmdebstrap >/dev/null; then return 1; fi
    if [ -x "$2/usr/bin/python$1" ]; then return; fi
    rm -rf "$2"
    # A mirror that is a few weeks old is good enough for a test.
    mmdebstrap --quiet --aptopt='Acquire::Check-Valid-Until "false"' --variant=minbase \
        --include="python$1,python$1-venv,ca-certificates" testing "$2"
    cp /etc/ssl/certs/ca-certificates.crt "$2/etc/ssl/certs/"
}

test_here() {
    tools/venv.sh "$2" ".matrix/$1" && ".matrix/$1/bin/python" -m pytest -q -n 2 -p no:cacheprovider "${TESTS[@]}"
}

# Run the tests on Python $1 of the Debian tree in $2, on a copy of this checkout.
test_in_debian() {
    rm -rf "$2/src" && mkdir "$2/src"
    git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from - | tar -x -C "$2/src"
    # Mounts made in a namespace of their own end with it.
    unshare --mount -- /bin/sh -eu -c '
        root=$1 python=$2
        shift 2
        mount --bind "$root" "$root" # so that tests can unshare their mounts, the root must be one
        mount --rbind /proc "$root/proc"
        mount --rbind /dev "$root/dev"
        chroot "$root" /src/tools/venv.sh "$python" /venv
        exec chroot "$root" env -C /src /venv/bin/python -m pytest "$@"
    ' sh "$2" "python$1" -q -n 2 -p no:cacheprovider "${TESTS[@]}"
}

for version in $VERSIONS; do
    echo "== Python $version"
    if python=$(find_python "$version"); then
        test_here "$version" "$python" || failed="$failed $version"
    elif debian_python "$version" ".matrix/debian-$version"; then
        test_in_debian "$version" ".matrix/debian-$version" || failed="$failed $version"
    else
        missing="$missing $version"
    fi
done
[ -z "$missing" ] || echo "Not tried, since these versions of Python are not here:$missing"
[ -z "$failed" ] || {
    echo "Failed:$failed"
    exit 1
}
