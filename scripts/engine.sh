#!/usr/bin/env bash
# Make sure that a Docker engine answers. Where one does, touch nothing.
#
# On Debian without an engine (and only there): install Debian 13's docker.io, which unlike Debian 12's runs on hosts
# whose capability bounding set is reduced, and start the daemon. Everywhere else: say what to install.
set -euo pipefail

readonly LOG=/var/log/breakfix-dockerd.log
readonly SOCKET=/var/run/docker.sock

say() { printf '[engine] %s\n' "$*" >&2; }

# The engine's API is asked, not the client: a fresh Debian has no client, and Debian 13 packages it apart.
answers() {
  if [ -n "${DOCKER_HOST:-}" ] || [ ! -S "$SOCKET" ]; then
    command -v docker >/dev/null && docker version --format '{{.Server.Version}}' >/dev/null 2>&1
  else
    python3 - "$SOCKET" <<'PY'
import socket, sys
with socket.socket(socket.AF_UNIX) as engine:
    engine.settimeout(5)
    try:
        engine.connect(sys.argv[1])
        engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        sys.exit(0 if b" 200 " in engine.recv(64) else 1)
    except OSError:
        sys.exit(1)
PY
  fi
}

refuse() {
  say "no Docker engine answers, and this script installs one only on Debian as root."
  say "Install and start Docker Engine 24 or later (or Docker Desktop), then run the command again."
  exit 3
}

# The mirror is the one that this machine's own apt uses, so that a company's mirror keeps working.
mirror() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$1" '$2 == release { print $1; exit }'
}

add_debian_13() {
  local uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  uri=$(mirror "$VERSION_CODENAME")
  printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' "$uri" "$keyring" \
    >/etc/apt/sources.list.d/breakfix-trixie.sources
  printf 'Package: *\nPin: release n=trixie\nPin-Priority: 100\n' >/etc/apt/preferences.d/breakfix-trixie
}

install_engine() {
  say "no engine here: installing Debian 13's docker.io (the only package taken from that suite)"
  if [ "$VERSION_CODENAME" = bookworm ]; then add_debian_13; fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -t trixie docker.io >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends iptables debootstrap >/dev/null
}

start_engine() {
  say "starting dockerd (log: $LOG)"
  # Each host's systemd takes a few of the kernel's inotify instances, and 128 are spent by about thirty sessions.
  sysctl -q -w fs.inotify.max_user_instances=1024 || say "could not raise fs.inotify.max_user_instances"
  setsid dockerd >>"$LOG" 2>&1 </dev/null &
  for _ in $(seq 1 300); do
    if answers; then return 0; fi
    sleep 0.1
  done
  say "dockerd did not answer within 30 s; the last lines of $LOG:"
  tail -n 15 "$LOG" >&2
  exit 3
}

main() {
  if answers; then return 0; fi
  [ -r /etc/os-release ] || refuse
  # shellcheck disable=SC1091
  . /etc/os-release
  [ "${ID:-}" = debian ] && [ "$(id -u)" = 0 ] && [ -z "${DOCKER_HOST:-}" ] || refuse
  command -v dockerd >/dev/null || install_engine
  start_engine
}

main "$@"
