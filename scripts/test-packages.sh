#!/usr/bin/env bash
# Builds the packages and proves them: the .rpm by what it says of itself, the .deb in a Debian of its own, where it is
# installed, configured, started, updated and removed. That needs root and Debian's tools, and is skipped without.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/debian.sh

base=$PWD/target/debian/base
with_systemd=$PWD/target/debian/systemd
throwaway=$PWD/target/debian/packages

main() {
  scripts/package.sh
  install_missing rpm
  test_rpm target/package/*.rpm
  if [ "$(id -u)" != 0 ] || ! has apt-get; then
    echo 'skipped: the .deb is not installed anywhere; that needs root and apt-get'
    return
  fi
  install_missing debootstrap ip
  install_systemd
  trap clean_up EXIT
  clean_up
  cp -a --reflink=auto "$with_systemd" "$throwaway"
  cp target/package/*.deb "$throwaway/mcp-bridge.deb"
  cp target/release/examples/demo-server "$throwaway/usr/local/bin/"
  cp scripts/test-deb.sh "$throwaway/test-deb.sh"
  cp LICENSE "$throwaway/LICENSE"
  # Processes, mounts and ports of its own, which go when the test ends.
  unshare --mount --pid --net --fork --kill-child sh -c "
    ip link set lo up
    mount -t proc proc $throwaway/proc
    exec chroot $throwaway env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin timeout 120 sh /test-deb.sh"
}

test_rpm() {
  local files owners requires
  files=$(rpm -qpl "$1")
  for file in /usr/bin/mcp-bridge /usr/lib/systemd/system/mcp-bridge.service /usr/lib/sysusers.d/mcp-bridge.conf \
    /usr/lib/tmpfiles.d/mcp-bridge.conf /usr/share/man/man1/mcp-bridge.1 /usr/share/licenses/mcp-bridge/LICENSE /etc/logrotate.d/mcp-bridge; do
    grep -qx "$file" <<<"$files" || fail "the rpm lacks $file"
  done
  owners=$(rpm -qp --qf '[%{FILENAMES} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEMODES:perms} %{FILEFLAGS:fflags}\n]' "$1")
  grep -qx '/etc/mcp-bridge/config.yaml root:mcp-bridge -rw-r----- cn' <<<"$owners" ||
    fail 'config.yaml must be a %config(noreplace) that only root and the service can read'
  ! grep -v ' root:root ' <<<"$owners" | grep -v '^/etc/mcp-bridge/config.yaml ' ||
    fail 'something else in the rpm is not root:root'
  requires=$(rpm -qp --requires "$1")
  for need in 'libssl.so.3()(64bit)' 'libcrypto.so.3(OPENSSL_3.0.0)(64bit)' systemd shadow-utils ca-certificates; do
    grep -qxF "$need" <<<"$requires" || fail "the rpm does not require $need"
  done
  grep -q 'useradd --system' <<<"$(rpm -qp --scripts "$1")" || fail 'the rpm does not make its user'
  echo "rpm: its files, owners and requirements are as they should be"
}

# The base with what the package depends on and its test needs, made once.
install_systemd() {
  [ ! -e "$with_systemd.complete" ] || return 0
  debian_root "$base"
  rm -rf "$with_systemd"
  cp -a --reflink=auto "$base" "$with_systemd"
  echo "installing systemd in $with_systemd"
  chroot "$with_systemd" env DEBIAN_FRONTEND=noninteractive sh -c '
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends systemd libssl3 ca-certificates logrotate bash procps socat' >"$with_systemd.log" 2>&1 ||
    { tail -n 20 "$with_systemd.log" >&2; fail 'systemd can not be installed'; }
  rm -rf "$with_systemd"/var/cache/apt/archives/*.deb
  : >"$with_systemd.complete"
}

fail() {
  echo "test-packages: $1" >&2
  exit 1
}

clean_up() {
  rm -rf "$throwaway"
}

main "$@"
