#!/usr/bin/env bash
# Everything Brewline needs on this machine: the Python environment here, Dapr's programs (programs.py), Redis and, for
# the tests, PostgreSQL (packages.py), and this machine's own secrets and tokens in var/ (libs/cli/cli/vault.py). Dapr is built while
# the rest is fetched. A second run finds it all done. `setup.sh environment` is Python alone; `setup.sh run` needs no
# PostgreSQL and is content with a Redis that REDIS_PORT names; `setup.sh cli` gets the dapr CLI, `setup.sh prometheus`
# that, `setup.sh s3` an S3 server, `setup.sh browser` Chromium and what tests/browser needs of npm, `setup.sh wiremock`
# that, `setup.sh production` the daprd that loads Kafka and PostgreSQL too, `setup.sh kafka` Kafka, `setup.sh examples`
# what examples/ and their tests need of npm and Go's modules, `setup.sh bench` the engines that the bench measures beside
# ours, `setup.sh containers` what builds images where no engine works, `setup.sh cluster` the Kubernetes of tests/k8s.
# Nothing is installed outside this folder except, as root on Debian, the packages that packages.py names.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_PYTHON_DOWNLOADS=never
PEERS=tools/bin/peers
PEERS_SOURCE=tests/bench/peers
WIREMOCK=org.wiremock:wiremock-standalone:3.13.2
WIREMOCK_SHA256=d097b19bd483c5038479b13a5c71e9faf8f2f5106584f0c120a7770ab0bdb367

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
  .venv/bin/python -m cli.vault
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
  get_modules $PEERS_SOURCE $PEERS "so the bench leaves Restate out"
}

# What the package-lock.json in $1 names, into $2/node_modules. Without npm: what $3 says.
get_modules() {
  local wanted
  wanted="$(cksum <"$1/package-lock.json")"
  [ "$(cat "$2/node_modules/stamp" 2>/dev/null)" != "$wanted" ] || return 0
  if ! command -v npm >/dev/null; then
    echo "setup: npm is missing (Debian: apt-get install npm), $3" >&2
    return 0
  fi
  echo "setup: Node's packages, from $1/package-lock.json"
  mkdir -p "$2"
  [ "$1" = "$2" ] || cp "$1/package.json" "$1/package-lock.json" "$2/"
  # No scripts: the only one there reports who installs.
  (cd "$2" && npm ci --ignore-scripts --no-audit --no-fund --silent) || die "npm could not install what $1 names"
  echo "$wanted" >"$2/node_modules/stamp"
}

# Each in its own folder, as its README says; without Node or Go its tests are skipped and say so.
get_examples() {
  get_modules examples/kitchen-display examples/kitchen-display "so examples/kitchen-display is not run"
  get_modules examples/till examples/till "so examples/till is not run"
  get_modules tests/examples/asyncapi tools/bin/asyncapi "so contracts/asyncapi.yaml is not read"
  if command -v go >/dev/null; then
    (cd examples/partner && go build -o partner .) || die "go could not build examples/partner: see above"
  else
    echo "setup: Go is missing, so examples/partner is not run" >&2
  fi
}

# From where Maven's own settings say. Without it, or Java, its test is skipped and says so.
get_wiremock() {
  local jar=tools/bin/wiremock.jar folder=tools/bin/.unfinished/wiremock
  .venv/bin/python tools/packages.py java || return 0
  ! is_wiremock $jar || return 0
  echo "setup: WireMock, by Maven"
  rm -rf $folder
  if ! mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:2.8:copy -Dartifact=$WIREMOCK \
    -DoutputDirectory="$PWD/$folder"; then
    echo "setup: Maven could not fetch WireMock: see above" >&2
    return 0
  fi
  is_wiremock $folder/*.jar || die "WireMock is not the one whose SHA-256 stands in tools/setup.sh"
  mv $folder/*.jar $jar
}

# The same of Kafka's broker and tools, which tools/kafka/pom.xml names.
get_kafka() {
  local jars=tools/bin/kafka folder="$PWD/tools/bin/.unfinished/kafka"
  .venv/bin/python tools/packages.py java || return 0
  ! is_kafka $jars || return 0
  echo "setup: Kafka, by Maven"
  rm -rf $jars "$folder"
  if ! mvn -q -B -f tools/kafka/pom.xml org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$folder"; then
    echo "setup: Maven could not fetch Kafka: see above" >&2
    return 0
  fi
  is_kafka "$folder" || die "Kafka's jars are not those whose SHA-256 stand in tools/kafka/SHA256SUMS"
  mv "$folder" $jars
}

is_kafka() {
  [ -d "$1" ] && (cd "$1" && sha256sum --check --status "$OLDPWD/tools/kafka/SHA256SUMS")
}

is_wiremock() {
  [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$WIREMOCK_SHA256" ]
}

dapr() {
  PYTHONPATH=libs/stack .venv/bin/python tools/programs.py "$@"
}

case "${1:-}" in
lock) lock ;;
environment) make_python && fill_environment ;;
cli | production | prometheus | s3) make_python && dapr "$1" ;;
bench) get_peers ;;
browser)
  make_python && fill_environment && .venv/bin/python tools/packages.py browser
  get_modules tests/browser tools/bin/browser "so the browser tests have no axe and no foreign issuer"
  ;;
cluster) make_python && fill_environment && .venv/bin/python tools/packages.py cluster && dapr cluster ;;
containers) make_python && fill_environment && .venv/bin/python tools/packages.py containers ;;
examples) make_python && fill_environment && get_examples ;;
wiremock) make_python && fill_environment && get_wiremock ;;
kafka) make_python && fill_environment && get_kafka ;;
*)
  make_python
  # Each says itself what went wrong. After a failure or a Ctrl-C the other still finishes: it takes seconds.
  get_the_rest "$@" &
  rest=$!
  dapr || { wait $rest; exit 1; }
  wait $rest
  ;;
esac
