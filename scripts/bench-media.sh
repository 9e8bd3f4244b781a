#!/usr/bin/env bash
# How many calls a media node carries, with its CPU, memory and lateness, beside a server that only moves the audio.
# Arguments go to the benchmark: --quick, and names of scenes (phone, client, archive, local); all of them without.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${BENCH_PROFILE:-release}
flags=(--profile "$profile")
folder=${CARGO_TARGET_DIR:-target}/$profile
if [ "$profile" = dev ]; then flags=() folder=${CARGO_TARGET_DIR:-target}/debug; fi
# Programs alone, as they are deployed: tests would bring in a runtime whose clock can be stopped.
cargo build "${flags[@]}" --workspace --bins
"$folder/voxray" models fetch
exec "$folder/bench_media" "$@"
