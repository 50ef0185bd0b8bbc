#!/usr/bin/env bash
# Everything Brewline needs on this machine: the Python environment here, Dapr's programs (programs.py), Redis and, for
# the tests, PostgreSQL (packages.py), and this machine's own secrets and tokens in var/ (vault.py). Dapr is built while
# the rest is fetched. A second run finds it all done. `setup.sh environment` is Python alone; `setup.sh run` needs no
# PostgreSQL and is content with a Redis that REDIS_PORT names; `setup.sh cli` gets the dapr CLI, `setup.sh browser`
# Chromium, `setup.sh bench` the engines that the bench measures beside ours. Nothing is installed outside this folder
# except, as root on Debian, the packages redis-server, postgresql and chromium-driver.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_PYTHON_DOWNLOADS=never
PEERS=tools/bin/peers
PEERS_SOURCE=tests/bench/peers

die() {
  echo "setup: $*" >&2
  exit 1
}

# A `uv` on the PATH may be a shim that leads nowhere, so it has to speak.
find_uv() {
  for uv in uv tools/bin/uv/bin/uv; do
    "$uv" --version >/dev/null 2>&1 && return
  done
  command -v python3 >/dev/null || die "python3 is missing: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
  echo "setup: uv is not here, installing it into tools/bin/uv"
  python3 -m venv tools/bin/uv >/dev/null || die "python3 -m venv does not work: install it (Debian: apt-get install python3-venv), or uv"
  tools/bin/uv/bin/python -m pip install --quiet uv || die "pip could not install uv: see above, or install uv yourself"
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# No line of it may name a registry's host or this folder.
lock() {
  find_uv
  "$uv" pip compile --quiet --universal --generate-hashes --no-annotate --no-header ${UPGRADE:+--upgrade} --group dev \
    pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml sandbox/pyproject.toml --output-file requirements.lock
  sed -i '/^-e file:/d' requirements.lock
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
    ${UPGRADE:+--upgrade} $PEERS_SOURCE/requirements.in --output-file $PEERS_SOURCE/requirements.lock
}

make_python() {
  new_enough .venv/bin/python && return
  find_uv
  rm -rf .venv
  "$uv" venv --quiet --python '>=3.11' .venv ||
    die "Python 3.11 or newer is missing: install it (Debian 12 and later: apt-get install python3 python3-venv)"
}

# The environment knows this folder by its full path, so a copy elsewhere needs its own.
fill_environment() {
  local stamp
  stamp="$PWD $(cat requirements.lock pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml sandbox/pyproject.toml | cksum)"
  [ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ] || return 0
  find_uv
  rm -f .venv/stamp
  echo "setup: Python packages from requirements.lock"
  # Compiled now: four services that start at once would each compile the same thousand modules.
  "$uv" pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock ||
    die "the Python packages could not be installed: see uv's words above"
  local members=()
  for member in libs/* services/* sandbox; do
    [ ! -f "$member/pyproject.toml" ] || members+=(-e "$member")
  done
  "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation "${members[@]}" ||
    die "the workspace's own packages could not be installed: see uv's words above"
  echo "$stamp" >.venv/stamp
}

# What needs no Dapr.
get_the_rest() {
  fill_environment
  .venv/bin/python tools/packages.py "$@"
  .venv/bin/python tools/vault.py
}

# An environment of their own: nothing of it is the product's. Without npm there is no Restate, and the bench goes on.
get_peers() {
  local wanted
  mkdir -p $PEERS
  wanted="$(cksum <$PEERS_SOURCE/requirements.lock)"
  if [ "$(cat $PEERS/venv/stamp 2>/dev/null)" != "$wanted" ]; then
    find_uv
    echo "setup: the bench's peers, from $PEERS_SOURCE/requirements.lock"
    rm -rf $PEERS/venv
    "$uv" venv --quiet --python '>=3.11' $PEERS/venv || die "no Python for the bench's peers: see uv's words above"
    "$uv" pip sync --quiet --compile-bytecode --python $PEERS/venv/bin/python --require-hashes \
      $PEERS_SOURCE/requirements.lock || die "the bench's peers could not be installed: see uv's words above"
    echo "$wanted" >$PEERS/venv/stamp
  fi
  wanted="$(cksum <$PEERS_SOURCE/package-lock.json)"
  [ "$(cat $PEERS/node_modules/stamp 2>/dev/null)" != "$wanted" ] || return 0
  if ! command -v npm >/dev/null; then
    echo "setup: npm is missing (Debian: apt-get install npm), so the bench leaves Restate out" >&2
    return 0
  fi
  echo "setup: Restate's server, from $PEERS_SOURCE/package-lock.json"
  cp $PEERS_SOURCE/package.json $PEERS_SOURCE/package-lock.json $PEERS/
  # No scripts: the only one there reports who installs.
  (cd $PEERS && npm ci --ignore-scripts --no-audit --no-fund --silent) || die "npm could not install Restate's server"
  echo "$wanted" >$PEERS/node_modules/stamp
}

dapr() {
  PYTHONPATH=libs/stack .venv/bin/python tools/programs.py "$@"
}

case "${1:-}" in
lock) lock ;;
environment) make_python && fill_environment ;;
cli) make_python && dapr cli ;;
bench) get_peers ;;
browser) make_python && fill_environment && .venv/bin/python tools/packages.py browser ;;
*)
  make_python
  # Each says itself what went wrong. After a failure or a Ctrl-C the other still finishes: it takes seconds.
  get_the_rest "$@" &
  rest=$!
  dapr || { wait $rest; exit 1; }
  wait $rest
  ;;
esac
