#!/bin/sh
set -eu
go build -o /out/podnet .
