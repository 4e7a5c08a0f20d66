package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

const (
	configFile = "/etc/cni/net.d/10-podnet.conflist"
	// What the plugins of the node's image speak.
	config = `{
  "cniVersion": "1.0.0",
  "name": "podnet",
  "plugins": [
    {
      "type": "ptp",
      "mtu": 1500,
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": "%s"}]]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`
)

// writeConfig makes the node ready: the kubelet calls it so as soon as this file is there.
func writeConfig(podCIDR string) error {
	wanted := fmt.Appendf(nil, config, podCIDR)
	if found, err := os.ReadFile(configFile); err == nil && bytes.Equal(found, wanted) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(configFile), 0o755); err != nil {
		return err
	}
	temporary := configFile + ".new" // a name that the runtime does not read
	if err := os.WriteFile(temporary, wanted, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, configFile)
}
