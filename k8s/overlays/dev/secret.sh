#!/usr/bin/env bash
# Prints the secret of the dev overlay, made of what scripts/compose-secrets.sh has generated.
set -euo pipefail
cd "$(dirname "$0")/../../../.secrets"
value() { sed -n "s/^$1 = //p" aws_credentials; }
kubectl -n voxray create secret generic voxray-secrets --dry-run=client -o yaml \
    --from-file=redis-url=redis_url \
    --from-file=redis-password=redis_password \
    --from-file=service-token=service_token \
    --from-file=transcripts-dsn=transcripts_dsn \
    --from-file=postgres-password=postgres_password \
    --from-file=s3-identities.json=s3_identities.json \
    --from-literal=aws-access-key-id="$(value aws_access_key_id)" \
    --from-literal=aws-secret-access-key="$(value aws_secret_access_key)" \
    ${OPENAI_API_KEY:+--from-literal=openai-api-key="$OPENAI_API_KEY"}
