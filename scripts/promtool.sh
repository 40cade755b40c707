#!/bin/sh
# Usage: scripts/promtool.sh DIR
#
# Puts promtool into DIR, from Debian's package of Prometheus. It is unpacked and not installed: installed, it could start
# a server.
set -eu
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
if [ -x "$1/promtool" ]; then
    echo "$1/promtool is there already"
    exit 0
fi
mkdir -p "$1/package"
dir=$(cd "$1" && pwd)
cd "$dir/package"
rm -f prometheus_*.deb
download() { apt-get -qq -o APT::Sandbox::User=root download prometheus; }
if ! download 2>/dev/null; then
    # The package lists are old or missing.
    if [ "$(id -u)" = 0 ]; then apt-get -qq update; else sudo apt-get -qq update; fi
    download
fi
dpkg -x prometheus_*.deb root
mv root/usr/bin/promtool "$dir/promtool"
rm -rf "$dir/package"
