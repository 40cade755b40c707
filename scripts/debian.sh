# shellcheck shell=sh
# Sourced by the scripts beside it: what they take from Debian.

# The mirror that this machine uses already, or $DEBIAN_MIRROR.
debian_mirror() {
    # shellcheck disable=SC2016
    mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep '/debian/*$' | head -n 1)}
    [ -n "$mirror" ] || { echo "apt has no mirror of Debian's; name one with DEBIAN_MIRROR" >&2; return 1; }
    echo "$mirror"
}

# A minimal Debian of this machine's release in the folder $1, made once. Needs root and debootstrap.
debian_root() {
    [ ! -e "$1.complete" ] || return 0
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    mirror=$(debian_mirror) || return 1
    rm -rf "$1"
    mkdir -p "$1"
    echo "installing a minimal Debian in $1"
    debootstrap --variant=minbase "$release" "$1" "$mirror" >"$1.log" 2>&1 || { tail -n 20 "$1.log" >&2; return 1; }
    rm -rf "$1"/var/cache/apt/archives/*.deb
    : >"$1.complete"
}
