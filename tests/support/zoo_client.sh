#!/usr/bin/env bash
# Usage: zoo_client.sh BRIDGE CA PORT HOST [CRL]
#
# Shows the server on 127.0.0.1:PORT to `mcp-bridge connect`, which trusts CA and verifies HOST. Exit code 0 when the
# handshake was a success.
set -euo pipefail
bridge=$1 ca=$2 port=$3 host=$4 crl=${5:-}

config=$(mktemp)
trap 'rm -f "$config"' EXIT
cat >"$config" <<YAML
mode: client
client: {url: "https://127.0.0.1:$port/", proxy: none}
logging: {level: debug}
tls:
  ca_cert: $ca
  server_name: "$host"
  ${crl:+crl_file: $crl}
YAML

# Its standard error is what is read here.
# Only its standard error goes into the pipe.
# shellcheck disable=SC2069
coproc connect { exec "$bridge" connect -c "$config" 2>&1 >/dev/null; }
# shellcheck disable=SC2154 # bash names it after the coprocess
pid=$connect_PID
exec {log}<&"${connect[0]}"
request='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"zoo","version":"1"}}}'
echo "$request" >&"${connect[1]}"

verdict=1
while IFS= read -r line <&"$log"; do
  case $line in
    *': TLS handshake: TLS '*) verdict=0; break ;;
    *"request 1: "*) echo "$line" >&2; break ;;
    *mcp-bridge:*) echo "$line" >&2 ;;
  esac
done
kill -KILL "$pid" 2>/dev/null || true
exit "$verdict"
