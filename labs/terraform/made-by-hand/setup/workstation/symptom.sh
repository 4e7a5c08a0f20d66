[ "$(ls /root/stack)" = provider.tf ]
