sed -i 's/mtu 9000/mtu 1500/' /etc/network-setup.d/30-link
systemctl restart network-setup
