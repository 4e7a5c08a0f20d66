#!/bin/sh
# Make a minimal Debian root file system, for an engine that can pull nothing.  Usage: debootstrap.sh DIRECTORY
#
# The mirrors are those of the machine's own apt: no address is written here, and a company's mirror keeps working.
set -eu
root=$1
suite=bookworm

repositories() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        sort -u | awk -v suite="$suite" '$2 ~ "^" suite && $3 == "main"'
}

mirror=$(repositories | awk -v suite="$suite" '$2 == suite { print $1; exit }')
# shellcheck disable=SC2086  # without a mirror the argument is left out, and debootstrap takes its default
debootstrap --variant=minbase "$suite" "$root" $mirror
repositories | awk '{ print "deb", $1, $2, $3 }' >"$root/etc/apt/sources.list.new"
if [ -s "$root/etc/apt/sources.list.new" ]; then
    mv "$root/etc/apt/sources.list.new" "$root/etc/apt/sources.list"
else
    rm "$root/etc/apt/sources.list.new"
fi
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
