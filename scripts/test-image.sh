#!/usr/bin/env bash
# Builds the container image from a Debian of this machine's release, and runs it as docs/container.md says: read-only,
# without capabilities, for clients with certificates, in FIPS mode. Needs root, podman and buildah, and is skipped without.
#
#   scripts/test-image.sh        # MCP_BRIDGE_FIPS_DIR: as scripts/fips-provider.sh fills it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/debian.sh

work=$PWD/target/image
certs=$work/certs
image=localhost/mcp-bridge-test
fips=${MCP_BRIDGE_FIPS_DIR:-$PWD/target/fips}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export CONTAINERS_STORAGE_CONF=$work/storage.conf
# There is no service manager to start timers; the checks are run here.
export DISABLE_HC_SYSTEMD=true

main() {
  case ${1:-} in
    '') ;;
    --run) run_all; return ;;
    *) echo "usage: $0" >&2; exit 2 ;;
  esac
  local toolchain
  toolchain=$(rustc --print sysroot)
  if [ "$(id -u)" != 0 ] || ! has apt-get || [ ! -x "$toolchain/bin/cargo" ]; then
    echo 'skipped: the container image is not built; that needs root, apt-get and a toolchain of rustup'
    return
  fi
  install_missing podman buildah runc debootstrap ip openssl
  mkdir -p "$work"
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$work/storage" "$work/run" >"$CONTAINERS_STORAGE_CONF"
  base_images
  build "$toolchain"
  derive
  make_certificates
  # Ports of their own: those of the machine may be taken.
  # shellcheck disable=SC2016
  unshare --net --kill-child sh -c 'ip link set lo up && exec "$0" --run' scripts/test-image.sh
}

# What stands in for a registry: the runtime image, and the one to build in, which finds the toolchain of this machine.
base_images() {
  ! podman image exists "$image/build" || return 0
  debian_root "$PWD/target/debian/base"
  echo 'importing the base images'
  tar -C "$PWD/target/debian/base" -c . | podman import --quiet - "$image/runtime" >/dev/null
  local container
  container=$(buildah from --pull-never "$image/runtime")
  buildah config --env PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin --env CARGO_HOME="$cargo_home" \
    --env CARGO_NET_OFFLINE=true "$container"
  buildah commit --quiet --rm "$container" "$image/build" >/dev/null
}

build() {
  cargo fetch --quiet --locked
  # The dependencies are taken from a release build of this machine, if there is one: same toolchain, same sources at the
  # same paths. The program itself is compiled and linked in the image.
  if [ ! -d "$work/target" ]; then
    mkdir -p "$work/target"
    [ ! -d target/release ] || cp -a target/release "$work/target/"
    rm -rf "$work"/target/release/.fingerprint/mcp-bridge-*
  fi
  echo 'building the image'
  buildah bud --quiet --isolation chroot --network host --pull-never --layers --format docker \
    --volume "$1:/usr/local/rust:ro" --volume "$cargo_home:$cargo_home" --volume "$work/target:/build/target" \
    --build-arg BUILD_IMAGE="$image/build" --build-arg RUNTIME_IMAGE="$image/runtime" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --tag "$image/bridge" . >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; fail 'no image'; }
  # What earlier builds left behind; today's layers make the next build quick.
  podman image prune --force --filter until=24h >/dev/null
}

# As docs/container.md does it, with a server that needs no interpreter, and leaves orphans behind.
derive() {
  cargo build --quiet --release --locked --example demo-server
  rm -rf "$work/derived"
  mkdir -p "$work/derived"
  cp target/release/examples/demo-server "$work/derived/"
  cat >"$work/derived/leaves-orphans" <<'SH'
#!/bin/sh
(sleep 0.1 &)
(setsid sleep 0.1 &)
exec demo-server
SH
  chmod 755 "$work/derived/leaves-orphans"
  printf 'FROM %s/bridge\nCOPY demo-server leaves-orphans /usr/local/bin/\n' "$image" >"$work/derived/Dockerfile"
  buildah bud --quiet --isolation chroot --pull-never --format docker --tag "$image/derived" "$work/derived" >/dev/null
}

make_certificates() {
  scripts/make-certs.sh "$certs" >/dev/null
  rm -rf "$work/renewed" "$work/mounted"
  cp -a "$certs" "$work/renewed"
  rm "$work/renewed"/server.*
  scripts/make-certs.sh "$work/renewed" >/dev/null
  cp -a "$certs" "$work/mounted"
  config 'client_auth: verify' "client_ca_file: /etc/mcp-bridge/tls/ca.crt" >"$work/mounted/mutual.yaml"
  config 'fips: required' >"$work/mounted/fips.yaml"
  chown -R 10001:10001 "$work/mounted"
}

# The arguments are lines of `tls`.
config() {
  cat <<YAML
mode: server
server:
  listen: ":8443"
  allow_insecure: true
tls:
  enabled: true
  cert_file: /etc/mcp-bridge/tls/server.crt
  key_file: /etc/mcp-bridge/tls/server.key
  reload_interval: 1h
$(printf '  %s\n' "$@")
metrics:
  listen: "127.0.0.1:9090"
mcp:
  command: leaves-orphans
YAML
}

run_all() {
  trap 'podman rm --force --all >/dev/null 2>&1' EXIT
  test_image
  test_mutual_tls
  if [ -e "$fips/openssl.cnf" ]; then test_fips; else echo 'skipped: no FIPS provider (scripts/fips-provider.sh)'; fi
}

test_image() {
  local inspected bare size
  inspected=$(podman inspect --type image --format '{{.User}} {{.HealthCheck.Test}} {{.Config.StopSignal}} {{index .Labels "org.opencontainers.image.title"}}' "$image/bridge")
  [ "$inspected" = '10001:10001 [CMD mcp-bridge health] SIGTERM mcp-bridge' ] || fail "the image says $inspected"
  podman_run --rm --entrypoint cat "$image/bridge" /usr/share/doc/mcp-bridge/LICENSE | cmp --quiet - LICENSE ||
    fail 'the licence is missing'
  size=$(podman inspect --type image --format '{{.Size}}' "$image/bridge")
  bare=$(podman inspect --type image --format '{{.Size}}' "$image/runtime")
  echo "image: $((size / 1000000)) MB, of which $(((size - bare) / 1000000)) MB are not the base image's"
  # OpenSSL is the only cryptography, and it is the system's.
  local libraries
  libraries=$(podman_run --rm --entrypoint ldd "$image/bridge" /usr/local/bin/mcp-bridge | awk '{ print $1 }' | sort | tr '\n' ' ')
  [[ $libraries == *libcrypto.so.3*libssl.so.3* ]] || fail "it is linked with $libraries"
  ! grep -qE 'gnutls|nss|gcrypt|mbed|wolf' <<<"$libraries" || fail "it is linked with $libraries"
}

test_mutual_tls() {
  # The image's own check: the listener wants a certificate, so it asks metrics.listen.
  start mutual.yaml
  podman healthcheck run bridge || fail 'unhealthy'
  podman exec bridge mcp-bridge health --ready >/dev/null || fail 'not ready'
  calls_add || fail 'the tool did not say 42'
  eventually 'the call in the log' logged 'POST /mcp .*name=add .*status=200'
  eventually 'the call in the metrics' counted '^mcp_bridge_requests_total{method="tools/call",outcome="ok"} 1$'
  ! timeout 10 curl --silent --cacert "$certs/ca.crt" https://localhost:8443/health 2>/dev/null || fail 'it asks for no certificate'
  eventually 'an end of the orphans' no_orphans

  local old
  old=$(serial)
  cp "$work/renewed"/server.{crt,key} "$work/mounted/"
  # The same file, since a mount holds the file and not its name.
  sed 's/^mcp:/logging: {requests: false}\n&/' "$work/mounted/mutual.yaml" >"$work/quiet.yaml"
  cat "$work/quiet.yaml" >"$work/mounted/mutual.yaml"
  podman kill --signal HUP bridge >/dev/null
  eventually 'the renewed certificate' renewed "$old"
  local calls
  calls=$(podman logs bridge 2>&1 | grep -c 'POST /mcp')
  calls_add || fail 'no tool after the reload'
  [ "$(podman logs bridge 2>&1 | grep -c 'POST /mcp')" = "$calls" ] || fail 'logging.requests was not loaded anew'
  podman healthcheck run bridge || fail 'unhealthy after the renewal'

  podman stop --time 10 bridge >/dev/null
  [ "$(podman inspect --format '{{.State.ExitCode}}' bridge)" = 0 ] || fail 'it was not stopped in good order'
  podman rm bridge >/dev/null
  echo 'image: serves mutual TLS, is healthy and ready, logs, counts, reaps orphans, reloads on SIGHUP, stops in time'
}

test_fips() {
  start fips.yaml --volume "$fips:$fips:ro" --env "OPENSSL_CONF=$fips/openssl.cnf"
  podman logs bridge 2>&1 | matches 'FIPS mode: ' || fail 'not in FIPS mode'
  podman healthcheck run bridge || fail 'unhealthy in FIPS mode'
  ! s_client -groups X25519 >/dev/null 2>&1 || fail 'X25519 is not approved'
  s_client -groups P-256 >/dev/null 2>&1 || fail 'P-256 is approved'
  podman rm --force bridge >/dev/null
  echo 'image: runs in FIPS mode'
}

# The container "bridge", with the configuration $1.
start() {
  local file=$1
  shift
  podman_run --detach --name bridge --volume "$work/mounted:/etc/mcp-bridge/tls:ro" \
    --volume "$work/mounted/$file:/etc/mcp-bridge/config.yaml:ro" "$@" "$image/derived" >/dev/null
  eventually 'listening' logged 'listening on'
}

# Nothing that Kubernetes' "restricted" profile forbids.
podman_run() {
  podman --runtime runc run --network host --pull never --read-only --cap-drop ALL --security-opt no-new-privileges \
    --ulimit nofile=20000:20000 --ulimit nproc=32768:32768 "$@"
}

calls_add() {
  printf '%s\n' \
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}' \
    '{"jsonrpc":"2.0","method":"notifications/initialized"}' \
    '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":19,"b":23}}}' |
    podman_run --rm --interactive --volume "$work/mounted:/certs:ro" "$image/bridge" connect https://localhost:8443/mcp \
      --ca-cert /certs/ca.crt --cert /certs/client.crt --key /certs/client.key 2>/dev/null | matches '"text":"42"'
}

s_client() {
  timeout 10 openssl s_client -connect localhost:8443 -CAfile "$certs/ca.crt" -verify_return_error \
    -cert "$certs/client.crt" -key "$certs/client.key" "$@" </dev/null
}

serial() {
  s_client 2>/dev/null | openssl x509 -noout -serial
}

renewed() {
  [ "$(serial)" != "$1" ]
}

logged() {
  podman logs bridge 2>&1 | matches "$1"
}

counted() {
  curl --silent http://localhost:9090/metrics | matches "$1"
}

# Neither running nor zombies.
no_orphans() {
  local running
  # `cat` fails for a process that ends meanwhile.
  running=$(podman exec bridge sh -c 'cat /proc/[0-9]*/comm 2>/dev/null || true') || return 1
  ! grep -qx sleep <<<"$running"
}

# Whether what it reads matches. Unlike `grep -q` it reads all of it, since with pipefail a writer that is cut off
# makes a failure of a match.
matches() {
  grep -q "$@" <<<"$(cat)"
}

# The condition $2..., named $1.
eventually() {
  local what=$1 tries
  shift
  for ((tries = 0; tries < 150; tries++)); do
    ! "$@" || return 0
    sleep 0.1
  done
  fail "in vain waited for: $what"
}

fail() {
  echo "test-image: $1" >&2
  podman logs --tail 20 bridge >&2 2>/dev/null || true
  exit 1
}

main "$@"
