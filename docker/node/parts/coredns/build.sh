#!/bin/sh
set -eu
mkdir -p /out
go build -o /out/ tool
