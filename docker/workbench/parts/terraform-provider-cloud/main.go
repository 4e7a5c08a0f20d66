// terraform-provider-cloud manages a few resources of an AWS-compatible API: buckets, their objects, and databases.
//
// Labs about drift, import and dangerous plans need resources that live outside of OpenTofu, where they can be made,
// changed and removed behind its back. This provider has few of them, but they are whole: what someone else changed is
// seen, what is gone is planned anew, and whatever exists can be imported.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
)

// version is set by the linker.
var version = "dev"

func main() {
	serve := providerserver.ServeOpts{Address: "registry.opentofu.org/breakfix/cloud"}
	made := func() provider.Provider { return &cloud{version: version} }
	if err := providerserver.Serve(context.Background(), made, serve); err != nil {
		log.Fatal(err)
	}
}
