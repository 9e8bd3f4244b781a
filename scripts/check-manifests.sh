#!/usr/bin/env bash
# Checks Dockerfile, compose.yaml and k8s/ without a container engine or a cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${VOXRAY_TOOLS:-$PWD/.cache/tools}
export PYTHONPATH=$tools/lib
kubernetes_version=1.33

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "manifests: Dockerfile (hadolint)"
# Debian packages follow the release's security fixes: their versions are not pinned.
"$tools/bin/hadolint" --ignore DL3008 Dockerfile

echo "manifests: compose.yaml (docker-compose config)"
"$tools/bin/docker-compose" -f compose.yaml config --format json > "$work/compose.json"

for folder in k8s/base k8s/overlays/*/; do
    [ -d "$folder" ] || continue
    name=$(basename "$folder")
    echo "manifests: $folder (kustomize, kubernetes-validate $kubernetes_version)"
    kubectl kustomize "$folder" > "$work/$name.yaml"
    # One line a resource is noise unless something is wrong.
    if ! python3 "$tools/bin/kubernetes-validate" --strict -k "$kubernetes_version" "$work/$name.yaml" > "$work/log" 2>&1; then
        cat "$work/log" >&2
        exit 1
    fi
done

echo "manifests: names, ports and settings"
python3 scripts/check_manifests.py docs/config.schema.json Dockerfile "$work/compose.json" "$work"/*.yaml
