#!/bin/sh
# Load the container images that a cluster starts from into the node's containerd, unpacked, so that no start unpacks.
#
# It runs in a privileged container of the unfinished image, because containerd mounts what it unpacks. Each image is
# one flat layer: a layer that deletes files would need a whiteout, which an overlay on an overlay refuses.
set -eu
path=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Servers of one small cluster collect their garbage earlier: a little more processor, a tenth less memory.
environment='"GOGC=50", '
command=
owner='--owner=0 --group=0'
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) arch=$(uname -m) ;;
esac

main() {
    cd /rootfs
    make_kubernetes
    make_podnet
    make_busybox
    containerd >/tmp/containerd.log 2>&1 &
    containerd=$!
    for _ in $(seq 100); do
        ! ctr version >/dev/null 2>&1 || break
        sleep 0.1
    done
    load_all
    kill "$containerd"
    wait "$containerd" || true
    cd /
    rm -rf /rootfs /tmp/containerd.log /run/containerd
}

load_all() {
    kubeadm config images list --kubernetes-version "$(cat /kind/version)" >names
    load kubernetes '' $(grep /kube- names)
    load etcd '' $(grep /etcd: names)
    load coredns '"/coredns"' $(grep /coredns names)
    # containerd's configuration and kubeadm may name two different ones.
    load pause '"/pause"' $({ grep /pause: names; sed -n 's/^ *sandbox_image = "\(.*\)"/\1/p' /etc/containerd/config.toml; } | sort -u)
    # The others go by the names that the manifests give them.
    for name in podnet local-path-provisioner metrics-server; do
        load "$name" "\"/$name\"" "breakfix.local/$name:1"
    done
    environment=
    load busybox '"/bin/sh"' breakfix.local/busybox:1
    load_app
    # The layers themselves are not needed once they are unpacked.
    ctr -n k8s.io content prune references >/dev/null
}

# With what its Dockerfile says besides files, and whose they are; a test holds the two against each other.
load_app() {
    environment='"LANG=C.UTF-8", "PYTHONUNBUFFERED=1", ' command='"webapp"' owner=
    load app '' "$(cat app.name)"
}

# Each of the servers is the same file under another name; kube-proxy calls iptables besides.
make_kubernetes() {
    mkdir -p kubernetes/usr/local/bin kubernetes/usr/local/lib/kubernetes
    cp -a /usr/local/bin/kubernetes /usr/local/bin/kube-* kubernetes/usr/local/bin/
    rm kubernetes/usr/local/bin/kube-proxy
    ln -s /usr/local/bin/kubernetes kubernetes/usr/local/lib/kubernetes/kube-proxy
    install -m 755 kube-proxy.sh kubernetes/usr/local/bin/kube-proxy
    make_busybox_in kubernetes
    copy_with_libraries kubernetes /usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi /usr/sbin/nft \
        /usr/sbin/conntrack /usr/sbin/ipset
    for tool in iptables ip6tables; do
        for suffix in '' -save -restore; do
            ln -s xtables-legacy-multi "kubernetes/usr/sbin/$tool-legacy$suffix"
            ln -s xtables-nft-multi "kubernetes/usr/sbin/$tool-nft$suffix"
        done
    done
    # Extensions are loaded by name, and some need a library that the programs themselves do not.
    copy_with_libraries kubernetes "$(dirname "$(find /usr/lib -name libxt_comment.so)")"/*.so
}

make_podnet() {
    copy_with_libraries podnet /usr/sbin/nft
}

make_busybox() {
    make_busybox_in busybox
    mkdir -m 1777 busybox/tmp
    mkdir busybox/etc
    echo 'root:x:0:0:root:/root:/bin/sh' >busybox/etc/passwd
}

make_busybox_in() {
    mkdir -p "$1/bin"
    cp /bin/busybox "$1/bin/"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
    done
}

# copy_with_libraries ROOT PROGRAM…: programs, and the loader and libraries that they need, at their own paths.
copy_with_libraries() {
    root=$1
    shift
    for program; do
        mkdir -p "$root${program%/*}"
        cp -aL "$program" "$root$program"
        ldd "$program" | awk '/=> \// { print $3 } $1 ~ "^/" { print $1 }' | while read -r library; do
            mkdir -p "$root${library%/*}"
            cp -nL "$library" "$root$library"
        done
    done
}

# load FOLDER ENTRYPOINT NAME…: one image of one layer under all its names.
load() {
    folder=$1 entrypoint=$2
    shift 2
    mkdir image
    tar -C "$folder" --sort=name $owner --numeric-owner --mtime=@0 -cf image/layer.tar .
    cat >image/config.json <<END
{"architecture": "$arch", "os": "linux", "created": "1970-01-01T00:00:00Z",
 "config": {"Env": [$environment"$path"], "Entrypoint": [$entrypoint], "Cmd": [$command]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(sha256sum image/layer.tar | cut -d' ' -f1)"]}}
END
    printf '[{"Config": "config.json", "Layers": ["layer.tar"], "RepoTags": ["%s"]}]' \
        "$(echo "$*" | sed 's/ /", "/g')" >image/manifest.json
    # Pinned: the kubelet never removes them when the disk is full, for nobody could pull them again.
    tar -C image -c manifest.json config.json layer.tar |
        ctr -n k8s.io images import --local --discard-unpacked-layers --label io.cri-containerd.pinned=pinned - >/dev/null
    rm -rf image "$folder"
}

main
