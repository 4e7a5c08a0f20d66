#!/bin/sh
set -eu
mkdir -p /out/usr/local/bin
go build -o /out/usr/local/bin/ tool
mv /out/usr/local/bin/server /out/usr/local/bin/etcd
