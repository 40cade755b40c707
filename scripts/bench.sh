#!/usr/bin/env bash
# Measures mcp-bridge beside its ceiling and prints tables in Markdown.
#
#   scripts/bench.sh [--quick] [TABLE…]    requests, handshakes, large, connect, idle, sessions, payload, start; all of them by default
#
# Servers run on the first core and the load on the second, so a machine that does nothing else is wanted.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

require_rust cargo
install_missing cc openssl-headers openssl flock taskset nginx
scripts/make-certs.sh certs-fixtures

ulimit -n "$(ulimit -Hn)" # an idle client is an open file

echo
echo "$(uname -srm), $(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(openssl version)"
cargo bench --quiet --locked --bench bridge -- run "$@"
