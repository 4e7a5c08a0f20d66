// podnet is the cluster's network: one of it runs on every node.
//
// It tells the container runtime which addresses the node's pods get, routes to the pods of other nodes, and lets pods
// speak to the world under the node's address. Nodes of kind are neighbours on one network, so plain routes are enough.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// lookAgain is how often everything is put right although no node has changed: somebody may have removed a route.
const lookAgain = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	node, podSubnet := os.Getenv("NODE_NAME"), os.Getenv("POD_SUBNET")
	if node == "" || podSubnet == "" {
		return fmt.Errorf("NODE_NAME and POD_SUBNET must be set")
	}
	client, err := connect()
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().Nodes()
	changed, err := watch(informer.Informer())
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return ctx.Err()
	}
	for {
		nodes, err := informer.Lister().List(labels.Everything())
		if err == nil {
			err = putRight(ctx, node, podSubnet, nodes)
		}
		wait := lookAgain
		if err != nil {
			log.Print(err)
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// connect reaches the API server by its own address where that is known, so as not to wait for kube-proxy.
func connect() (kubernetes.Interface, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return kubernetes.NewForConfig(config)
}

// watch returns a channel that has something in it when a node has come, gone or got other addresses.
func watch(informer cache.SharedIndexInformer) (<-chan struct{}, error) {
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default: // it has been told already
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { tell() },
		DeleteFunc: func(any) { tell() },
		UpdateFunc: func(old, now any) {
			// A node's status is written every few seconds; that alone is no change.
			if addresses(old.(*v1.Node)) != addresses(now.(*v1.Node)) {
				tell()
			}
		},
	})
	return changed, err
}

func addresses(node *v1.Node) string {
	return node.Spec.PodCIDR + " " + internalAddress(node)
}

func internalAddress(node *v1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == v1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}

func putRight(ctx context.Context, own, podSubnet string, nodes []*v1.Node) error {
	wanted := map[string]string{}
	for _, node := range nodes {
		switch {
		case node.Spec.PodCIDR == "":
			// The controller manager has not given it one yet; its update wakes us.
		case node.Name == own:
			if err := writeConfig(node.Spec.PodCIDR); err != nil {
				return err
			}
		case internalAddress(node) != "":
			wanted[node.Spec.PodCIDR] = internalAddress(node)
		}
	}
	if err := masquerade(ctx, podSubnet); err != nil {
		return err
	}
	return route(wanted)
}
