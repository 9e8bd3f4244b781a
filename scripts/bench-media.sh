#!/usr/bin/env bash
# How many calls a media node carries, with its CPU, memory and lateness, beside a server that only moves the audio.
# Arguments go to the benchmark: --quick, and names of scenes (phone, client, archive, local); all of them without.
# `pipecat` installs it (PyPI, pinned) and measures it beside a media node.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${BENCH_PROFILE:-release}
flags=(--profile "$profile")
folder=${CARGO_TARGET_DIR:-target}/$profile
if [ "$profile" = dev ]; then flags=() folder=${CARGO_TARGET_DIR:-target}/debug; fi
tools=${VOXRAY_TOOLS:-$PWD/.cache/tools}
if [[ " $* " == *" pipecat "* ]]; then
    export BENCH_PIPECAT=$tools/pipecat
    if ! cmp -s scripts/requirements-pipecat.txt "$BENCH_PIPECAT/requirements.txt"; then
        echo "bench: installing pipecat (PyPI, pinned, 150 MB) into $BENCH_PIPECAT" >&2
        rm -rf "$BENCH_PIPECAT"
        python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-warn-script-location \
            --no-deps --only-binary=:all: --require-hashes --target "$BENCH_PIPECAT" \
            -r scripts/requirements-pipecat.txt >&2 ||
            { echo "bench: pipecat is pinned for CPython 3.11 on x86_64; without it leave \`pipecat\` out" >&2; exit 1; }
        cp scripts/requirements-pipecat.txt "$BENCH_PIPECAT/requirements.txt"
    fi
fi
# Programs alone, as they are deployed: tests would bring in a runtime whose clock can be stopped.
cargo build "${flags[@]}" --workspace --bins
"$folder/voxray" models fetch
exec "$folder/bench_media" "$@"
