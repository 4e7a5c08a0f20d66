package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// peers are who is on the other side: pods by their addresses, and ranges. The zero value is nobody.
type peers struct {
	pods   []addressed // by address
	blocks []block
}

// block is a range of addresses without some smaller ones.
type block struct {
	cidr   netip.Prefix
	except []netip.Prefix
}

var everywhere = block{cidr: netip.MustParsePrefix("0.0.0.0/0")}

func (b block) contains(address netip.Addr) bool {
	return b.cidr.Contains(address) &&
		!slices.ContainsFunc(b.except, func(hole netip.Prefix) bool { return hole.Contains(address) })
}

// rule is an entry of a policy's ingress or egress. Its ports stay as they are: what a name means depends on the pod.
type rule struct {
	peers peers
	ports []networking.NetworkPolicyPort
	// destinations are the pods that a port's name is looked up in on the way out: all that the peers' ranges contain.
	destinations []addressed
}

// finder resolves selectors among all pods of the cluster.
type finder struct {
	pods       []addressed
	namespaces map[string]labels.Set
}

// rules returns the policy's rules for each direction that it isolates.
func (f finder) rules(policy *networking.NetworkPolicy, complain func(error)) map[networking.PolicyType][]rule {
	rules := map[networking.PolicyType][]rule{}
	for _, direction := range typesOf(policy) {
		rules[direction] = nil
		switch direction {
		case networking.PolicyTypeIngress:
			for _, from := range policy.Spec.Ingress {
				rules[direction] = append(rules[direction], f.rule(policy.Namespace, from.From, from.Ports, complain))
			}
		case networking.PolicyTypeEgress:
			for _, to := range policy.Spec.Egress {
				rules[direction] = append(rules[direction], f.rule(policy.Namespace, to.To, to.Ports, complain))
			}
		}
	}
	return rules
}

func (f finder) rule(
	namespace string, listed []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort, complain func(error),
) rule {
	found := peers{}
	if len(listed) == 0 { // no list means everybody
		found.blocks = []block{everywhere}
	}
	selected := map[netip.Addr]bool{}
	for _, peer := range listed {
		if err := f.add(&found, selected, namespace, peer); err != nil {
			complain(fmt.Errorf("a peer is left out: %w", err))
		}
	}
	for _, port := range ports {
		if err := checkPort(port); err != nil {
			complain(fmt.Errorf("a port is left out: %w", err))
		}
	}
	found.pods = f.where(func(pod addressed) bool { return selected[pod.address] })
	return rule{found, ports, f.where(func(pod addressed) bool {
		return selected[pod.address] || slices.ContainsFunc(found.blocks, func(b block) bool { return b.contains(pod.address) })
	})}
}

// add puts one entry of a list of peers where it belongs: its range into found, the pods it selects into selected.
func (f finder) add(
	found *peers, selected map[netip.Addr]bool, namespace string, peer networking.NetworkPolicyPeer,
) error {
	if peer.IPBlock != nil {
		if peer.PodSelector != nil || peer.NamespaceSelector != nil {
			return errors.New("it has both an ipBlock and a selector")
		}
		block, err := parseBlock(peer.IPBlock)
		if err == nil {
			found.blocks = append(found.blocks, block)
		}
		return err
	}
	if peer.PodSelector == nil && peer.NamespaceSelector == nil {
		return errors.New("it says nothing")
	}
	matches, err := f.matcher(namespace, peer)
	if err != nil {
		return err
	}
	for _, pod := range f.where(matches) {
		selected[pod.address] = true
	}
	return nil
}

// matcher tells which pods a peer's selectors mean: both have to match. Without one for namespaces it is the policy's
// own; without one for pods it is all of them. A selector that is there and empty matches everything.
func (f finder) matcher(own string, peer networking.NetworkPolicyPeer) (func(addressed) bool, error) {
	pods, err := selectorOr(peer.PodSelector, labels.Everything())
	if err != nil {
		return nil, err
	}
	namespaces, err := selectorOr(peer.NamespaceSelector, nil)
	if err != nil {
		return nil, err
	}
	return func(pod addressed) bool {
		if !pods.Matches(labels.Set(pod.Labels)) {
			return false
		}
		if namespaces == nil {
			return pod.Namespace == own
		}
		// A pod may be heard of before its namespace.
		found, known := f.namespaces[pod.Namespace]
		return known && namespaces.Matches(found)
	}, nil
}

func selectorOr(selector *meta.LabelSelector, otherwise labels.Selector) (labels.Selector, error) {
	if selector == nil {
		return otherwise, nil
	}
	return meta.LabelSelectorAsSelector(selector)
}

func (f finder) where(holds func(addressed) bool) []addressed {
	var found []addressed
	for _, pod := range f.pods {
		if holds(pod) {
			found = append(found, pod)
		}
	}
	return found
}

// parseBlock refuses a range as a whole if an exception can't be read: without it, it would allow too much.
func parseBlock(said *networking.IPBlock) (block, error) {
	cidr, err := parsePrefix(said.CIDR)
	if err != nil {
		return block{}, err
	}
	result := block{cidr: cidr}
	for _, exception := range said.Except {
		hole, err := parsePrefix(exception)
		if err != nil {
			return block{}, err
		}
		result.except = append(result.except, hole)
	}
	return result, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err == nil && !prefix.Addr().Is4() {
		err = fmt.Errorf("%s is no IPv4 range, and the cluster has no other", text)
	}
	return prefix.Masked(), err
}
