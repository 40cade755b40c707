#!/usr/bin/env bash
# Loads `serve` over TLS for some minutes, with clients of each kind and with faults: servers that die or stop, clients
# that stop, connections that break, reloads. Prints a table, and fails unless each request was answered rightly or by
# an error and the bridge is at the end what it was at the start. benches/soak has the details.
#
#   scripts/soak.sh MINUTES [SEED]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

main() {
  if ! [[ ${1:-} =~ ^[0-9]+(\.[0-9]+)?$ ]] || ! [[ ${2:-1} =~ ^[0-9]+$ ]]; then
    echo "usage: $0 MINUTES [SEED]" >&2
    exit 2
  fi
  require_rust cargo
  install_missing cc openssl-headers openssl flock
  cargo build --release --locked --bin mcp-bridge --example fixture-server
  exec cargo bench --locked --bench soak -- "$@"
}

main "$@"
