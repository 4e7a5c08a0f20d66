#!/bin/sh
# Without the snapshotters that a node never uses.
set -eu
mkdir -p /out/usr/local/bin
go build -tags 'no_aufs no_zfs no_btrfs no_devmapper' -o /out/usr/local/bin/ tool
