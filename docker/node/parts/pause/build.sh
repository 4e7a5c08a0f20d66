#!/bin/sh
set -eu
mkdir -p /out
gcc -Os -static -s -Wall -o /out/pause pause.c
