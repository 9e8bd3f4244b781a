#!/usr/bin/env bash
# Checks Dockerfile, compose.yaml and k8s/ without a container engine or a cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${VOXRAY_TOOLS:-$PWD/.cache/tools}
export PYTHONPATH=$tools/lib PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "manifests: Dockerfile (hadolint)"
# Debian packages follow the release's security fixes: their versions are not pinned.
"$tools/bin/hadolint" --ignore DL3008 Dockerfile

echo "manifests: compose.yaml, with every profile (docker-compose config)"
# As it is without this machine's environment and .env.
compose() { env -i PATH="$PATH" "$@" "$tools/bin/docker-compose" --env-file /dev/null -f compose.yaml --profile '*' config --format json; }
compose > "$work/compose.json"
compose VOXRAY_PUBLIC_ADDRESS=127.0.0.1 VOXRAY_PUBLIC_PORT=9000 > "$work/elsewhere.json"

echo "manifests: nginx configurations (nginx -t)"
nginx=$(command -v nginx || echo /usr/sbin/nginx)
for file in deploy/nginx/nginx.conf k8s/components/node-names/nginx.conf k8s/overlays/dev/nginx.conf; do
    # Names of a cluster mean nothing here.
    sed "s#/tmp/#$work/#; s#kube-dns.kube-system.svc.cluster.local#127.0.0.1#; s#http://\(media\|signaling\);#http://127.0.0.1;#" \
        "$file" > "$work/nginx.conf"
    if ! "$nginx" -t -p "$work" -c "$work/nginx.conf" > "$work/log" 2>&1; then
        echo "$file:" >&2
        cat "$work/log" >&2
        exit 1
    fi
done

# One component on top of the base: those that are in no overlay are checked as well.
mkdir -p "$work/tree/one"
cp -r k8s/base k8s/media k8s/components "$work/tree"
component() {
    printf 'namespace: voxray\nresources: [../base]\ncomponents: [../components/%s]\n' "$1" > "$work/tree/one/kustomization.yaml"
    kubectl kustomize "$work/tree/one"
}

echo "manifests: k8s/ (kubectl kustomize)"
for folder in k8s/overlays/*/; do
    kubectl kustomize "$folder" > "$work/$(basename "$folder").yaml"
done
for folder in k8s/components/*/; do
    component "$(basename "$folder")" > "$work/component-$(basename "$folder").yaml"
done
# Certificates have to name the nodes of every pool.
cp -r k8s/overlays "$work/tree"
printf 'resources: [../overlays/prod]\ncomponents: [../components/internal-tls]\n' > "$work/tree/one/kustomization.yaml"
kubectl kustomize "$work/tree/one" > "$work/prod-internal-tls.yaml"
# Traces come from media nodes of either kind.
printf 'resources: [../overlays/prod-deployment]\ncomponents: [../components/tracing]\n' > "$work/tree/one/kustomization.yaml"
kubectl kustomize "$work/tree/one" > "$work/prod-deployment-tracing.yaml"
kubectl kustomize k8s/prometheus-adapter > "$work/prometheus-adapter.yaml"

echo "manifests: schemas of three Kubernetes versions, names, ports, settings, metrics, who may talk to whom"
python3 scripts/check_manifests.py docs/config.schema.json Dockerfile "$work/compose.json" "$work/elsewhere.json" "$work"/*.yaml
