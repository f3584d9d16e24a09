#!/bin/sh
# Install what the tests run beside Python, with the system's package manager, where it is missing: Chromium, which the
# tests of the page drive, bubblewrap, which folds of the service run in, zip, whose archives the service reads, and
# nginx and Caddy, which lead to it, and promtool, which tests the alerts.
# Where that cannot or may not be done (BNFOLD_NO_PACKAGES=1), the tests that need them are skipped, and say so.
set -eu

has() {
    for name in "$@"; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

missing="" packages=""
miss() {
    missing="${missing:+$missing, }$1"
    packages="${packages:+$packages }$2"
}

# A font too: without any, a text has no width.
has chromium chromium-browser google-chrome || miss "Chromium (tests of the page)" "chromium fonts-dejavu-core"
[ ! -d /proc/self/ns ] || has bwrap || miss "bubblewrap (tests of the sandbox)" bubblewrap
has zip || miss "zip (tests of archives)" zip
# Servers are unpacked, and not installed: an installed one would listen on ports of this machine.
programs=.cache/programs
has_programs() {
    for name in nginx caddy promtool; do
        has "$name" "$programs/usr/sbin/$name" "$programs/usr/bin/$name" || return 1
    done
}
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
download() {
    set -- nginx caddy prometheus
    apt-get download -qq "$@" 2>/dev/null || { as_root apt-get update -qq && apt-get download -qq "$@"; }
}
# Of Prometheus, promtool alone: the rest is large.
unpack() {
    for package in nginx*.deb caddy*.deb; do dpkg -x "$package" .; done
    dpkg-deb --fsys-tarfile prometheus*.deb | tar -x ./usr/bin/promtool
    rm -- *.deb
}
if [ "${BNFOLD_NO_PACKAGES:-}" != 1 ] && has apt-get && has dpkg && ! has_programs; then
    echo "Unpacking nginx, Caddy and promtool into $programs, for the tests of docs/proxies.md and deploy/prometheus ..."
    mkdir -p "$programs"
    (cd "$programs" && download && unpack) || echo "That cannot be done: the tests that need them are skipped."
fi
[ -n "$missing" ] || exit 0

go_on_without() {
    echo "Missing: $missing. Nothing is installed: $1."
    echo "The tests that need them are skipped. To run them, install them as your system does (Debian: apt-get install"
    echo "chromium bubblewrap zip; Fedora: dnf install the same; macOS: brew install --cask chromium, brew install zip)."
    exit 0
}

[ "${BNFOLD_NO_PACKAGES:-}" != 1 ] || go_on_without "BNFOLD_NO_PACKAGES is 1"
has apt-get || go_on_without "this system has no apt-get"
as_root true 2>/dev/null || go_on_without "only root may install packages here"
echo "Missing: $missing. Installing the Debian packages $packages, a minute or more; BNFOLD_NO_PACKAGES=1 forbids it ..."
as_root apt-get update -qq || go_on_without "the lists of packages cannot be read"
# shellcheck disable=SC2086  several words
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages \
    || go_on_without "apt-get could not do it"
