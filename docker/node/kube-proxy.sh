#!/bin/sh
# kube-proxy in its container: use the iptables that the node's own rules were made with, legacy or nft.
kind=legacy
[ "$(iptables-legacy-save 2>/dev/null | grep -c '^-')" -ge "$(iptables-nft-save 2>/dev/null | grep -c '^-')" ] || kind=nft
for tool in iptables ip6tables; do
    for suffix in '' -save -restore; do
        ln -sf "$tool-$kind$suffix" "/usr/sbin/$tool$suffix"
    done
done
exec /usr/local/lib/kubernetes/kube-proxy "$@"
