#!/usr/bin/env bash
# The Inspector's CLI lists the tools of the fixture server and calls one.
#
#   inspector.sh [--era legacy|modern] [--ca FILE] [--cert FILE --key FILE] [--token-env VAR] URL
#   inspector.sh [--era legacy|modern] --stdio COMMAND ARGS...
#
# MCP_BRIDGE_PEERS names the folder that setup.sh filled. Prints one line of JSON.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
peers=${MCP_BRIDGE_PEERS:?names no folder (see tests/peers/setup.sh)}
headers=() target=() over=http era=legacy

while [ $# -gt 0 ]; do
  case $1 in
    --era) era=$2; shift 2 ;;
    --ca) export NODE_EXTRA_CA_CERTS=$2; shift 2 ;;
    --cert) export PEER_CERT=$2; shift 2 ;;
    --key) export PEER_KEY=$2; shift 2 ;;
    --token-env) headers=(--header "Authorization: Bearer ${!2}"); shift 2 ;;
    --stdio) shift; over=stdio target=("$@"); break ;;
    *) target=("$1" --transport http); shift ;;
  esac
done
# The Inspector has no option for a client certificate: a module loaded before it gives one to Node's own fetch.
[ -z "${PEER_CERT:-}" ] || export NODE_OPTIONS="--import=$here/client-certificate.mjs"

# Options come first: whatever follows a command belongs to the command.
inspect() {
  local command=("$peers/bin/node" "$peers/node_modules/.bin/mcp-inspector" --cli)
  if [ $over = stdio ]; then
    timeout 60 "${command[@]}" --protocol-era $era "$@" -- "${target[@]}"
  else
    timeout 60 "${command[@]}" "${target[@]}" "${headers[@]}" --protocol-era $era "$@"
  fi
}

expect() { # WANTED OUTPUT
  grep -qF -- "$1" <<<"$2" || { echo "FAILED: the Inspector did not print $1 but: $2" >&2; exit 1; }
}

HOME=$(mktemp -d) # the Inspector keeps a catalogue there
export HOME
trap 'rm -rf "$HOME"' EXIT

expect '"raw_request"' "$(inspect --method tools/list)"
expect 'from the Inspector' "$(inspect --method tools/call --tool-name echo --tool-arg 'message=from the Inspector')"
echo "{\"client\": \"inspector\", \"over\": \"$over\"}"
