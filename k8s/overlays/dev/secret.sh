#!/usr/bin/env bash
# Prints the secret of the dev overlay. Its passwords are generated into .secrets/ the first time, and stay.
set -euo pipefail
cd "$(dirname "$0")/../../.."
# The folder keeps other users of this machine out.
mkdir -p -m 700 .secrets
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
deploy/compose/secrets.sh .secrets "$files"
cd "$files"
value() { sed -n "s/^$1 = //p" archiver/aws_credentials; }
kubectl -n voxray create secret generic voxray-secrets --dry-run=client -o yaml \
    --from-file=redis-url=calls/redis_url \
    --from-file=redis-password=redis/redis_password \
    --from-file=service-token=calls/service_token \
    --from-file=transcripts-dsn=archiver/transcripts_dsn \
    --from-file=postgres-password=postgres/postgres_password \
    --from-file=s3-identities.json=s3/s3_identities.json \
    --from-literal=aws-access-key-id="$(value aws_access_key_id)" \
    --from-literal=aws-secret-access-key="$(value aws_secret_access_key)" \
    ${OPENAI_API_KEY:+--from-literal=openai-api-key="$OPENAI_API_KEY"}
