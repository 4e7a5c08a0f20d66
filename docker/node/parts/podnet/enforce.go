package main

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	core "k8s.io/client-go/listers/core/v1"
	networking "k8s.io/client-go/listers/networking/v1"
	"sigs.k8s.io/knftables"
)

// enforcer keeps the node's rules as the policies want them.
//
// How long may a new pod do what its policies forbid? As a rule not at all: kubelet and agent hear of a pod at about the
// same time, a sandbox takes longer than a transaction, and until the pod's address is known nobody unknown may speak
// (see isolate). What remains is the time that a policy or a label takes from the API server to here; the second until
// the kubelet tells the address of a sandbox that it had to make anew; and after a restart of the node, the time until
// the agent runs. When only the agent ends, the rules stay.
type enforcer struct {
	node       string
	nft        knftables.Interface
	pods       core.PodLister
	namespaces core.NamespaceLister
	policies   networking.NetworkPolicyLister

	applied   string // the transaction that the kernel took last
	appliedAt time.Time
	told      string // the complaints that are in the log already
}

func newEnforcer(node string, factory informers.SharedInformerFactory) (*enforcer, error) {
	nft, err := knftables.New(knftables.IPv4Family, policyTable)
	if err != nil {
		return nil, err
	}
	return &enforcer{
		node:       node,
		nft:        nft,
		pods:       factory.Core().V1().Pods().Lister(),
		namespaces: factory.Core().V1().Namespaces().Lister(),
		policies:   factory.Networking().V1().NetworkPolicies().Lister(),
	}, nil
}

// enforce makes the rules what the policies of this moment want. If that fails, those from before stay.
func (e *enforcer) enforce(ctx context.Context) error {
	seen, err := e.look()
	if err != nil {
		return err
	}
	wanted := decide(e.node, seen)
	e.tell(wanted.complaints)
	transaction := render(e.nft, wanted)
	// Most changes of pods change no rule. But now and then all is written again: somebody may have removed it.
	if text := transaction.String(); text != e.applied || time.Since(e.appliedAt) > lookAgain/2 {
		if err := e.nft.Run(ctx, transaction); err != nil {
			return fmt.Errorf("network policies: %w", err)
		}
		e.applied, e.appliedAt = text, time.Now()
	}
	return nil
}

func (e *enforcer) look() (cluster, error) {
	var seen cluster
	var err error
	if seen.pods, err = e.pods.List(labels.Everything()); err != nil {
		return seen, err
	}
	if seen.namespaces, err = e.namespaces.List(labels.Everything()); err != nil {
		return seen, err
	}
	seen.policies, err = e.policies.List(labels.Everything())
	return seen, err
}

func (e *enforcer) tell(complaints []string) {
	text := strings.Join(complaints, "; ")
	if text != e.told && text != "" {
		log.Print(text)
	}
	e.told = text
}
