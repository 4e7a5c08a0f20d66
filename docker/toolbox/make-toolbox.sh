#!/bin/sh
# Make the trusted toolbox: tools that run inside a machine whose every file belongs to somebody else.
# Usage: make-toolbox.sh DIRECTORY   (the tree works only when it is mounted at that same path)
#
# busybox is static, but its shell prefers its own applets to what stands on the path, so the grading shell is dash.
# dash and the others bring their own loader and libraries. A loader would still read /etc/ld.so.preload and
# fall back to the machine's /lib, OpenSSL its openssl.cnf, glibc its nsswitch.conf: each a way to run the candidate's
# code in our process. systemctl would run the machine's helper for SysV services, p11-kit and GSS load what files in
# /etc name, and system() the machine's /bin/sh. So those paths are rewritten in every binary, length for length, to
# places below /sys, which is read-only in a container and where nobody can make a file. curl is told not to read
# root's .curlrc.
set -eu
root=$1
tools="dash ss ip systemctl journalctl setpriv findmnt nft openssl curl getcap getfacl lsattr dpkg-query loginctl ps nsenter"

mkdir -p "$root/bin" "$root/lib" "$root/libexec"
cp /bin/busybox "$root/bin/busybox"
for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
done

loader=$(ldd /bin/ls | awk '/ld-linux/ { print $1 }')
cp -L "$loader" "$root/lib/loader"
for tool in $tools; do
    path=$(command -v "$tool")
    cp -L "$path" "$root/libexec/$tool"
    ldd "$path" | awk '$3 ~ "^/" { print $3 }' | while read -r library; do
        cp -nL "$library" "$root/lib/"
    done
    rm -f "$root/bin/$tool"
    first=
    [ "$tool" != curl ] || first=' -q'
    printf '#!%s/bin/busybox sh\nexec %s/lib/loader --inhibit-cache --library-path %s/lib --argv0 %s %s/libexec/%s%s "$@"\n' \
        "$root" "$root" "$root" "$tool" "$root" "$tool" "$first" >"$root/bin/$tool"
    chmod +x "$root/bin/$tool"
done
install -m 755 "$(dirname "$0")/getent" "$root/bin/getent"

for binary in "$root"/lib/* "$root"/libexec/* "$root/bin/busybox"; do
    sed -i -e 's#/etc/ld\.so#/sys/ld.so#g' -e 's#/etc/nsswitch\.conf#/sys/nsswitch.conf#g' \
        -e 's#/usr/lib/#/sys/lib/#g' -e 's#/lib/\(x86_64\|aarch64\)-linux-gnu/#/sys/\1-linux-gnu/#g' \
        -e 's#/lib/systemd/systemd-#/sys/systemd/systemd-#g' -e 's#/bin/systemd-#/sys/systemd-#g' \
        -e 's#/etc/iproute2#/sys/iproute2#g' -e 's#/etc/gss/#/sys/gss/#g' -e 's#/etc/krb5\.conf#/sys/krb5.conf#g' \
        -e 's#/etc/pkcs11/#/sys/pkcs11/#g' -e 's#/usr/share/p11-kit/#/sys/share/p11-kit/#g' \
        -e 's#/usr/sbin/#/sys/sbin/#g' -e 's#/usr/bin/ntlm_auth#/sys/bin/ntlm_auth#g' -e 's#/etc/dpkg\x00#/sys/dpkg\x00#g' \
        -e 's#\x00/bin/sh\x00#\x00/sys/sh\x00#g' \
        -e 's#\x00/lib/\x00#\x00/sys/\x00#g' -e 's#/usr/local/lib/#/sys/local/lib/#g' -e 's#/usr/lib\x00#/sys/lib\x00#g' "$binary"
done
chmod -R a-w "$root"
