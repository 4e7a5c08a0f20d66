# A unit of its own, after the one that sets the large size.
cat >/etc/systemd/system/link-size.service <<'END'
[Unit]
Description=The size that the network carries
After=network-setup.service
Before=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip link set dev eth0 mtu 1500

[Install]
WantedBy=multi-user.target
END
systemctl enable -q --now link-size
