# As `systemctl enable` does, without its detour through init scripts.
ln -s /lib/systemd/system/nginx.service -t /etc/systemd/system/multi-user.target.wants
systemctl start nginx
