#!/usr/bin/env bash
# From a fresh clone to a tool called over mutual TLS, on this machine alone:
#
#   client ──stdin/stdout──▶ mcp-bridge connect ──HTTPS, client certificate──▶ mcp-bridge serve ──▶ demo server
#
# Needs Rust; other build needs are installed with apt or dnf when they are missing. Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

certs=$PWD/certs-fixtures
release=${CARGO_TARGET_DIR:-$PWD/target}/release
work=$(mktemp -d)
server=

main() {
  trap clean_up EXIT
  step 'What the build needs'
  require_rust cargo
  install_missing cc openssl-headers openssl flock

  step 'Build'
  cargo build --release --locked --bin mcp-bridge --example demo-server

  step 'Certificates'
  scripts/make-certs.sh "$certs"

  step 'Serve the demo server over HTTPS, for clients with a certificate'
  write_config
  cat "$work/server.yaml"
  "$release/mcp-bridge" serve -c "$work/server.yaml" 2>"$work/server.log" &
  server=$!
  local url
  url=$(wait_for_url)
  echo "listening on $url"

  step 'What TLS negotiates with a client that has the certificate'
  negotiate "$url"

  step 'Call the tool "add" through connect'
  call_add "$url"
}

write_config() {
  cat >"$work/server.yaml" <<YAML
mode: server

server:
  listen: "127.0.0.1:0"

tls:
  enabled: true
  cert_file: "$certs/server.crt"
  key_file: "$certs/server.key"
  client_ca_file: "$certs/ca.crt"
  client_auth: "verify"
  min_version: "1.2"

mcp:
  command: "$release/examples/demo-server"
YAML
}

# The port is any free one, and the log names it.
wait_for_url() {
  local tries url
  for ((tries = 0; tries < 300; tries++)); do
    url=$(sed -n 's/.*listening on \(https:[^ ,"]*\).*/\1/p' "$work/server.log")
    [ -z "$url" ] || { echo "$url"; return; }
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  give_up 'serve does not listen'
}

negotiate() {
  local address=${1#https://}
  timeout 20 openssl s_client -brief -connect "${address%%/*}" -servername localhost -verify_return_error \
    -CAfile "$certs/ca.crt" -cert "$certs/client.crt" -key "$certs/client.key" </dev/null >"$work/tls.log" 2>&1 ||
    { cat "$work/tls.log" >&2; give_up 'the TLS handshake failed'; }
  grep -E '^(Protocol version|Ciphersuite|Peer certificate|Verification|Server Temp Key|Negotiated TLS1.3 group)' "$work/tls.log"
}

call_add() {
  local client='{"name":"quickstart","version":"1"}'
  local lines=(
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":'"$client"'}}'
    '{"jsonrpc":"2.0","method":"notifications/initialized"}'
    '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":19,"b":23}}}'
  )
  printf '%s\n' "${lines[@]}" | sed 's/^/→ /'
  printf '%s\n' "${lines[@]}" |
    timeout 30 "$release/mcp-bridge" connect "$1" --ca-cert "$certs/ca.crt" --cert "$certs/client.crt" --key "$certs/client.key" \
      >"$work/answers" || give_up 'connect failed'
  sed 's/^/← /' "$work/answers"
  grep -q '"text":"42"' "$work/answers" || give_up 'the tool did not say 42'
  printf '\nIt works: 19 + 23 = 42, over mutual TLS.\n'
}

step() {
  printf '\n== %s\n' "$1"
}

give_up() {
  echo "quickstart: $1; the log of serve:" >&2
  cat "$work/server.log" >&2
  exit 1
}

clean_up() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}

main "$@"
