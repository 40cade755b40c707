#!/usr/bin/env bash
# Installs the official MCP conformance suite with the servers and clients that it is run with:
#
#   tests/conformance/setup.sh DIR      # then: MCP_BRIDGE_CONFORMANCE=DIR cargo test conformance
#
# They are copied from the folder shared/conformance beside this repository, and its own setup.sh installs the pinned
# versions. Where that folder is missing, nothing is done, and the tests say that they are skipped. Repeating it costs
# nothing: DIR/.installed holds a digest of what was copied.
set -euo pipefail

from=$(dirname "$0")/../../../shared/conformance

main() {
  [ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
  [ -x "$from/setup.sh" ] || { echo "conformance: skipped, there is no $from"; return; }
  [ "$(uname -m)" = x86_64 ] || { echo "conformance: skipped, its Node is for x86_64 only"; return; }
  mkdir -p "$1"
  local dir wanted
  dir=$(cd "$1" && pwd)
  wanted=$(cd "$from" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)

  exec 9>"$dir/.lock"
  flock 9
  if [ "$(cat "$dir/.installed" 2>/dev/null)" = "$wanted" ]; then
    echo "conformance: already installed in $dir"
    return
  fi
  rm -f "$dir/.installed"
  cp -R "$from/." "$dir/"
  (cd "$dir" && ./setup.sh)
  echo "$wanted" >"$dir/.installed"
  echo "conformance: installed in $dir"
}

main "$@"
