#!/bin/sh
# Install Chromium, which the tests of the page drive, with the system's package manager; do nothing where it is there.
set -eu

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done

give_up() {
    echo "The tests of the page need Chromium, and $1." >&2
    echo "Install it as your system does (Debian: apt-get install chromium; Fedora: dnf install chromium;" >&2
    echo "macOS: brew install --cask chromium), so that 'chromium' or 'google-chrome' is a command, and run make again." >&2
    exit 1
}

command -v apt-get >/dev/null 2>&1 || give_up "this system has no apt-get to install it with"
as_root=""
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || give_up "only root may install packages here"
    as_root="sudo -n"
fi
echo "Installing Chromium for the tests of the page ..."
$as_root apt-get update -qq || give_up "the lists of packages cannot be read"
# A font too: without any, a text has no width.
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core \
    || give_up "apt-get could not install it"
