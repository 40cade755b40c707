#!/bin/sh
# Usage: scripts/fips-provider.sh DIR
#
# Puts a FIPS provider for tests into DIR, with DIR/openssl.cnf for OPENSSL_CONF. Debian 12 has none, so this takes
# Debian 13's package, without touching the machine's package lists. It is a functional stand-in: it behaves like a
# FIPS provider and is not a validated module.
set -eu
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
. "$(dirname "$0")/debian.sh"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
if [ -e "$dir/openssl.cnf" ]; then
    echo "$dir/openssl.cnf is there already"
    exit 0
fi
mirror=$(debian_mirror)
apt=$dir/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/sources.list"
options="-o Dir::Etc::SourceList=$apt/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$apt/lists
    -o Dir::Cache=$apt -o APT::Sandbox::User=root -o Acquire::Languages=none"
# The options are words of their own.
# shellcheck disable=SC2086
apt-get $options -qq update
# shellcheck disable=SC2086
(cd "$apt" && apt-get $options -qq download openssl-provider-fips)
dpkg -x "$apt"/openssl-provider-fips_*.deb "$apt/root"
find "$apt/root" -name fips.so -exec cp {} "$dir/fips.so" \;
rm -rf "$apt"

openssl fipsinstall -quiet -module "$dir/fips.so" -out "$dir/fipsmodule.cnf"
# RHEL 9.2 and later demand extended master secret of TLS 1.2: so does this.
sed -i "/^\[fips_sect\]/a module = $dir/fips.so\ntls1-prf-ems-check = 1" "$dir/fipsmodule.cnf"
cat >"$dir/openssl.cnf.new" <<CONF
config_diagnostics = 1
openssl_conf = openssl_init
.include $dir/fipsmodule.cnf
[openssl_init]
providers = provider_sect
alg_section = algorithm_sect
[provider_sect]
fips = fips_sect
base = base_sect
[base_sect]
activate = 1
[algorithm_sect]
default_properties = fips=yes
CONF
# The same provider, neither activated nor demanded: an application has to do both.
sed '/^activate/d' "$dir/fipsmodule.cnf" >"$dir/inactive.cnf"
sed -e '/^alg_section/d' -e '/^\[algorithm_sect\]/,$d' -e 's/fipsmodule.cnf/inactive.cnf/' \
    -e 's/^base = base_sect/default = base_sect/' "$dir/openssl.cnf.new" >"$dir/on-request.cnf"
mv "$dir/openssl.cnf.new" "$dir/openssl.cnf"
echo "OPENSSL_CONF=$dir/openssl.cnf"
