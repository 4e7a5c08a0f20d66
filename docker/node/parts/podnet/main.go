// podnet is the cluster's network: one of it runs on every node.
//
// It tells the container runtime which addresses the node's pods get, routes to the pods of other nodes, and lets pods
// speak to the world under the node's address. Nodes of kind are neighbours on one network, so plain routes are enough.
//
// It also enforces NetworkPolicy for the node's pods: enforce.go looks, policy.go decides what is allowed, and rules.go
// says it to the kernel.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	// lookAgain is how often everything is put right although nothing has changed: somebody may have removed a route.
	lookAgain = 30 * time.Second
	// breath is the least time between two times that something is put right.
	breath = 100 * time.Millisecond
)

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
	factory := informers.NewSharedInformerFactoryWithOptions(
		client, 0, informers.WithTransform(withoutBallast))
	nodes := factory.Core().V1().Nodes()
	nodesChanged, policiesChanged := make(chan struct{}, 1), make(chan struct{}, 1)
	if err := errors.Join(
		watch(nodes.Informer(), nodesChanged, movedNode),
		watch(factory.Core().V1().Pods().Informer(), policiesChanged, anyChange),
		watch(factory.Core().V1().Namespaces().Informer(), policiesChanged, anyChange),
		watch(factory.Networking().V1().NetworkPolicies().Informer(), policiesChanged, anyChange),
	); err != nil {
		return err
	}
	enforcer, err := newEnforcer(node, factory)
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("%v could not be listed", kind)
		}
	}
	// Pods start once the node has its configuration, so the rules come first.
	if err := enforcer.enforce(ctx); err != nil {
		log.Print(err)
	}
	go keep(ctx, policiesChanged, enforcer.enforce)
	keep(ctx, nodesChanged, func(ctx context.Context) error {
		found, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		return putRight(ctx, node, podSubnet, found)
	})
	return nil
}

// withoutBallast keeps what nobody here reads out of memory.
func withoutBallast(object any) (any, error) {
	if described, ok := object.(meta.Object); ok {
		described.SetManagedFields(nil)
		described.SetAnnotations(nil)
	}
	return object, nil
}

// keep does what has to be done whenever something has changed, soon again if it failed, and now and then anyway.
func keep(ctx context.Context, changed <-chan struct{}, do func(context.Context) error) {
	for {
		wait := lookAgain
		if err := do(ctx); err != nil {
			log.Print(err)
			wait = time.Second
		}
		select { // many changes that come together are seen to together
		case <-ctx.Done():
		case <-time.After(breath):
		}
		select {
		case <-ctx.Done():
			return
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

// watch puts something into changed when an object has come, gone or changed in a way that matters.
func watch(informer cache.SharedIndexInformer, changed chan<- struct{}, matters func(old, now any) bool) error {
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
			if matters(old, now) {
				tell()
			}
		},
	})
	return err
}

func anyChange(_, _ any) bool { return true }

// movedNode tells new addresses from a node's status, which is written every few seconds and alone is no change.
func movedNode(old, now any) bool { return addresses(old.(*v1.Node)) != addresses(now.(*v1.Node)) }

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
