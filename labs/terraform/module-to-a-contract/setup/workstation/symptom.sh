[ -s /root/stack/main.tf ] && [ -z "$(find /root/modules/service -name '*.tf')" ]
