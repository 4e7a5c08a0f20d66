#!/bin/sh
# kubeadm reads its own version to choose what it sets up, so the linker is told which release this is.
set -eu
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
major=${version#v}
minor=${major#*.}
stamp=k8s.io/component-base/version
go build -o /out/usr/local/bin/kubernetes -ldflags "-s \
    -X $stamp.gitVersion=$version -X $stamp.gitMajor=${major%%.*} -X $stamp.gitMinor=${minor%%.*} \
    -X $stamp.gitTreeState=clean" .
for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm kubectl; do
    ln -s kubernetes "/out/usr/local/bin/$name"
done
mkdir -p /out/kind
printf '%s' "$version" >/out/kind/version
