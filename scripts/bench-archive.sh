#!/usr/bin/env bash
# Throughput of the archiver against `aws s3 cp` of the same bytes and `psql \copy` of the same rows.
# Arguments go to the benchmark: calls, MiB of audio a call, turns a call.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${VOXRAY_TOOLS:-$PWD/.cache/tools}
profile=${BENCH_PROFILE:-release}

if ! command -v aws >/dev/null; then
    if [ ! -x "$tools/aws/bin/aws" ]; then
        echo "bench: installing the AWS command line (PyPI, pinned) into $tools/aws" >&2
        rm -rf "$tools/aws"
        python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-warn-script-location --no-deps \
            --only-binary=:all: --require-hashes --target "$tools/aws" -r scripts/requirements-bench.txt >&2
    fi
    PATH="$tools/aws/bin:$PATH"
    export PYTHONPATH="$tools/aws"
fi
flags=()
[ "$profile" = dev ] || flags=(--profile "$profile")
folder=$profile
[ "$profile" = dev ] && folder=debug
# Everything at once: one package alone would be built with other features, and all it needs once more.
cargo build "${flags[@]}" --workspace --bins --examples
exec "${CARGO_TARGET_DIR:-target}/$folder/examples/bench_archive" "$@"
