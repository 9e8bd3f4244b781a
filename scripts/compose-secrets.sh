#!/usr/bin/env bash
# Generates the secrets that compose.yaml mounts into its containers, in .secrets/. What exists is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -d .secrets ]; then
    echo ".secrets exists; it is left as it is" >&2
    exit 0
fi
random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
redis=$(random) postgres=$(random) s3=$(random)

# The folder keeps other users of this machine out; the files are read by the users inside the containers.
new=$(mktemp -d .secrets.XXXXXX)
cd "$new"
printf '%s' "$redis" > redis_password
printf 'redis://:%s@redis:6379/' "$redis" > redis_url
printf '%s' "$postgres" > postgres_password
printf 'postgres://voxray:%s@postgres:5432/voxray?sslmode=disable' "$postgres" > transcripts_dsn
random > service_token
random > grafana_password
printf '[default]\naws_access_key_id = voxray\naws_secret_access_key = %s\n' "$s3" > aws_credentials
printf '{"identities": [{"name": "voxray", "credentials": [{"accessKey": "voxray", "secretKey": "%s"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}\n' \
    "$s3" > s3_identities.json
chmod 644 ./*
cd ..
mv -T "$new" .secrets
echo "wrote .secrets with generated passwords" >&2
