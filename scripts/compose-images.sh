#!/usr/bin/env bash
# Makes images under the names that Dockerfile and compose.yaml use, for a machine whose container engine can pull none:
# from Debian packages (debootstrap, as root), this machine's Rust toolchain, and `make tools`.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${VOXRAY_TOOLS:-$PWD/.cache/tools}
docker=${DOCKER:-docker}
release=bookworm

say() { printf 'compose-images: %s\n' "$*" >&2; }
have() { "$docker" image inspect "$1" >/dev/null 2>&1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/voxray-images-XXXXXX")
trap 'rm -rf "$work"' EXIT

# image NAME FOLDER: builds FOLDER/Dockerfile
image() {
    say "$1"
    DOCKER_BUILDKIT=1 "$docker" build --quiet --tag "$1" "$2" >/dev/null
}

if ! have debian:$release-slim; then
    say "debian:$release-slim (debootstrap)"
    debootstrap --variant=minbase "$release" "$work/root" >"$work/log" 2>&1 || { tail "$work/log" >&2; exit 1; }
    tar -C "$work/root" -c . | "$docker" import - debian:$release-slim >/dev/null
    rm -rf "$work/root"
fi

if ! have rust:1.95-$release; then
    mkdir "$work/rust"
    cp -rL "$(rustc --print sysroot)" "$work/rust/toolchain"
    rm -rf "$work/rust/toolchain/share"
    cat > "$work/rust/Dockerfile" <<END
FROM debian:$release-slim
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev make ca-certificates && rm -rf /var/lib/apt/lists/*
COPY toolchain /usr/local/rust
ENV PATH=/usr/local/rust/bin:\$PATH CARGO_HOME=/usr/local/cargo
END
    image rust:1.95-$release "$work/rust"
    rm -rf "$work/rust"
fi

if ! have redis:7; then
    mkdir "$work/redis"
    cat > "$work/redis/Dockerfile" <<END
FROM debian:$release-slim
RUN apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
WORKDIR /data
VOLUME /data
END
    image redis:7 "$work/redis"
fi

if ! have postgres:15; then
    mkdir "$work/postgres"
    cat > "$work/postgres/start" <<'END'
#!/bin/bash
# What compose.yaml uses of the official image: POSTGRES_USER, POSTGRES_DB and POSTGRES_PASSWORD_FILE on an empty disk.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
chown postgres "$data"
if [ ! -s "$data/PG_VERSION" ]; then
    install -o postgres -m 600 "$POSTGRES_PASSWORD_FILE" /tmp/password
    setpriv --reuid postgres --regid postgres --clear-groups "$bin/initdb" -D "$data" -U "$POSTGRES_USER" --pwfile /tmp/password \
        --auth-local trust --auth-host scram-sha-256
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_DB\"" | setpriv --reuid postgres --regid postgres --clear-groups \
        "$bin/postgres" --single -D "$data" postgres
fi
exec setpriv --reuid postgres --regid postgres --clear-groups "$bin/postgres" -D "$data" -c listen_addresses='*' -k /tmp
END
    cat > "$work/postgres/Dockerfile" <<END
FROM debian:$release-slim
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-15 && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/15
COPY --chmod=755 start /usr/local/bin/start
ENV PGHOST=/tmp
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["start"]
END
    image postgres:15 "$work/postgres"
fi

if ! have nginx:1.28; then
    mkdir "$work/nginx"
    cat > "$work/nginx/Dockerfile" <<END
FROM debian:$release-slim
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light curl && rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
END
    image nginx:1.28 "$work/nginx"
fi

if ! have chrislusf/seaweedfs:4.48; then
    mkdir "$work/s3"
    cp -L "$tools/bin/weed" "$work/s3/weed"
    cat > "$work/s3/Dockerfile" <<END
FROM debian:$release-slim
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
COPY weed /usr/bin/weed
VOLUME /data
ENTRYPOINT ["weed"]
END
    image chrislusf/seaweedfs:4.48 "$work/s3"
fi

# Debian's is older than the one that compose.yaml names, and takes the same arguments. Grafana is not in Debian.
if ! have prom/prometheus:v3.5.0; then
    mkdir "$work/prometheus"
    cat > "$work/prometheus/Dockerfile" <<END
FROM debian:$release-slim
RUN apt-get update && apt-get install -y --no-install-recommends prometheus wget && rm -rf /var/lib/apt/lists/* \\
    && install -d -o 65534 -g 65534 /prometheus
USER 65534:65534
VOLUME /prometheus
ENTRYPOINT ["prometheus"]
END
    image prom/prometheus:v3.5.0 "$work/prometheus"
fi
