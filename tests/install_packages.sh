#!/bin/sh
# Install what the tests run beside Python, with the system's package manager, where it is missing: Chromium, which the
# tests of the page drive, bubblewrap, which folds of the service run in, and zip, whose archives the service reads.
set -eu

has() {
    for name in "$@"; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

missing=""
# A font too: without any, a text has no width.
has chromium chromium-browser google-chrome || missing="chromium fonts-dejavu-core"
[ ! -d /proc/self/ns ] || has bwrap || missing="$missing bubblewrap"
has zip || missing="$missing zip"
[ -n "$missing" ] || exit 0

give_up() {
    echo "The tests need these programs, and $1: $missing" >&2
    echo "Install them as your system does (Debian: apt-get install chromium bubblewrap zip; Fedora: dnf install the same;" >&2
    echo "macOS: brew install --cask chromium, brew install zip), so that 'chromium' or 'google-chrome' is a command, and run make again." >&2
    exit 1
}

has apt-get || give_up "this system has no apt-get to install them with"
as_root=""
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || give_up "only root may install packages here"
    as_root="sudo -n"
fi
echo "Installing for the tests: $missing ..."
$as_root apt-get update -qq || give_up "the lists of packages cannot be read"
# shellcheck disable=SC2086  several words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
    || give_up "apt-get could not install them"
