#!/bin/sh
# secrets.sh VALUES GROUPS
#
# Generates the passwords of a deployment into the folder VALUES; one that is there stays as it is. Of them it makes what the
# services read, into one folder below GROUPS for those that may know the same. Run by compose.yaml (as `secrets`, each
# folder a volume) and by k8s/overlays/dev/secret.sh.
set -eu
umask 077
values=${1:?the folder of generated values} groups=${2:?the folder of the groups}

# put FILE MODE: writes what comes in. Who reads meanwhile sees the old file or the new one, never a part.
put() {
    rm -f "$1.new"
    cat > "$1.new"
    chmod "$2" "$1.new"
    mv -f "$1.new" "$1"
}

# value NAME: prints a password of 192 bits.
value() {
    if [ ! -s "$values/$1" ]; then
        new=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
        if [ "${#new}" != 48 ]; then
            echo "secrets: /dev/urandom gave no random bytes" >&2
            exit 1
        fi
        printf '%s' "$new" | put "$values/$1" 600
        echo "secrets: generated $1" >&2
    fi
    cat "$values/$1"
}

# give GROUP FILE: the services run as users of their own, so all may read; what keeps others away is that a group's
# folder is mounted into no other container.
give() {
    mkdir -p "$groups/$1"
    chmod 755 "$groups/$1"
    put "$groups/$1/$2" 444
}

redis=$(value redis_password)
postgres=$(value postgres_password)
s3=$(value s3_secret_key)
token=$(value service_token)
grafana=$(value grafana_password)

# Signaling and media nodes.
printf 'redis://:%s@redis:6379/' "$redis" | give calls redis_url
printf '%s' "$token" | give calls service_token

printf '%s' "$token" | give archiver service_token
printf 'postgres://voxray:%s@postgres:5432/voxray?sslmode=disable' "$postgres" | give archiver transcripts_dsn
printf '[default]\naws_access_key_id = voxray\naws_secret_access_key = %s\n' "$s3" | give archiver aws_credentials

printf '%s' "$redis" | give redis redis_password
printf '%s' "$postgres" | give postgres postgres_password
printf '{"identities": [{"name": "voxray", "credentials": [{"accessKey": "voxray", "secretKey": "%s"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}\n' \
    "$s3" | give s3 s3_identities.json
printf '%s' "$grafana" | give grafana grafana_password
