#!/usr/bin/env bash
# A service one release older than its peer keeps working: proto/ may only grow. Compares it with the descriptors of the
# last release, proto/compat/*.binpb, by `buf breaking`. After a release, write the next one:
#   .cache/tools/bin/buf build proto --exclude-source-info -o proto/compat/VERSION.binpb
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${VOXRAY_TOOLS:-$PWD/.cache/tools}

for release in proto/compat/*.binpb; do
    echo "protocol: proto/ against $release (buf breaking)"
    "$tools/bin/buf" breaking proto --against "$release"
done
