#!/usr/bin/env bash
# Prepares a checkout for development: the virtual environment .venv, a container engine that answers, and the runner
# image; with the argument `venv`, only the first. Running it again takes a moment: what exists is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

ENGINE_SECONDS=60 # how long a container engine that was just started may take to answer
ENGINE_LOG=/var/log/dockerd.log

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

# Whether packages of the distribution may be installed here.
can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    local output
    say "installing $* with apt-get"
    if ! output=$({ apt-get -qq update &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@"; } 2>&1 </dev/null); then
        tail -n 15 <<<"$output" >&2
        fail "apt-get failed"
    fi
}

# A Python that runs and is recent enough; a name on PATH may be no more than a version manager's placeholder.
find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3.10 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    fail "Python 3.10 or later is needed and none was found on PATH"
}

ensure_venv() {
    local python
    python=$(find_python)
    if [ ! -d .venv ] && ! "$python" -c 'import ensurepip' 2>/dev/null; then
        can_apt || fail "$python lacks ensurepip: install python3-venv"
        apt_install python3-venv
    fi
    tools/venv.sh "$python" .venv
}

# Whether a container engine answers, tried for so many seconds while process $2, if given, lives.
engine_answers() {
    .venv/bin/python - "$@" <<'PYTHON'
import os, sys, time
from mcp_agentrun.engine.docker.discovery import connect

seconds, pid = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
deadline = time.monotonic() + seconds
while True:
    client, tried = connect()
    if client is not None:
        sys.exit(0)
    if time.monotonic() >= deadline or (pid and not os.path.exists(f"/proc/{pid}")):
        print(*tried, sep="\n", file=sys.stderr)
        sys.exit(1)
    time.sleep(0.25)
PYTHON
}

# The process id in file $1 if that process is a $2; a file that a killed one left behind is removed, since its
# number may belong to another process by now and would keep the engine from starting.
living() {
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; then
        echo "$pid"
        return
    fi
    rm -f "$1"
    return 1
}

start_engine() {
    local pid
    if [ -d /run/systemd/system ]; then
        say "starting the docker service"
        systemctl start docker
        pid=$(living /var/run/docker.pid dockerd || true)
    elif pid=$(living /var/run/docker.pid dockerd); then
        say "waiting for dockerd, which runs already"
    else
        living /var/run/docker/containerd/containerd.pid containerd >/dev/null || true
        say "starting dockerd (its log is $ENGINE_LOG)"
        setsid dockerd </dev/null >"$ENGINE_LOG" 2>&1 &
        pid=$!
        disown
    fi
    # shellcheck disable=SC2086
    if ! engine_answers "$ENGINE_SECONDS" $pid; then
        [ -f "$ENGINE_LOG" ] && tail -n 15 "$ENGINE_LOG" >&2
        fail "the container engine did not start"
    fi
}

ensure_engine() {
    local tried
    if tried=$(engine_answers 0 2>&1); then return; fi
    if [ -n "${DOCKER_HOST:-}" ]; then fail "the engine at DOCKER_HOST=$DOCKER_HOST does not answer: $tried"; fi
    if ! command -v dockerd >/dev/null && can_apt; then apt_install docker.io iptables ca-certificates; fi
    if engine_answers 0 2>/dev/null; then return; fi # some packages start it
    if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
        say "no container engine can be reached:"
        printf '%s\n' "$tried" >&2
        say "install and start one, then run this again:"
        say "  macOS, Windows   Docker Desktop"
        say "  Debian, Ubuntu   sudo apt-get install docker.io && sudo usermod -aG docker \$USER (then log in anew)"
        fail "  elsewhere        https://docs.docker.com/engine/install/"
    fi
    start_engine
}

ensure_image() {
    if .venv/bin/mcp-agentrun build; then return; fi
    if ! can_apt || command -v mmdebstrap >/dev/null; then exit 1; fi
    apt_install mmdebstrap debian-archive-keyring
    .venv/bin/mcp-agentrun build
}

# A registry of images, without which the tests that need one are skipped.
ensure_registry() {
    if command -v docker-registry >/dev/null || ! can_apt; then return; fi
    apt_install docker-registry
}

# Podman, for `make test-engine ENGINE=podman`; its tests run a service of their own.
ensure_podman() {
    if [ "${ENGINE:-}" != podman ] || command -v podman >/dev/null; then return; fi
    can_apt || fail "podman is needed"
    apt_install podman crun netavark
}

ensure_venv
if [ "${1:-}" = venv ]; then exit; fi
ensure_engine
ensure_image
ensure_registry
ensure_podman
say "ready"
