package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// cluster is what policies are judged by: what the API server told last.
type cluster struct {
	pods       []*v1.Pod
	namespaces []*v1.Namespace
	policies   []*networking.NetworkPolicy
}

// enforcement is what one node has to do for its own pods. Other nodes do the same for theirs, so that what goes from
// node to node is judged twice: where it leaves by the sender's egress, where it arrives by the receiver's ingress.
type enforcement struct {
	ingress, egress isolation
	known           []netip.Addr // of this node's pods
	complaints      []string     // about parts of policies that can't be followed
}

// isolation is one direction: which pods a policy selects, and what may pass nevertheless.
type isolation struct {
	pods    []isolatedPod
	waiting bool // a pod that a policy selects has no address yet
}

type isolatedPod struct {
	name    string // with its namespace
	address netip.Addr
	allowed []allowance
}

// allowance lets each of peers use each of ports. Both have to match, and a list without entries matches nothing.
type allowance struct {
	policy string // with its namespace
	peers  peers
	ports  []portRange
}

// addressed is a pod with the address that it answers to.
type addressed struct {
	*v1.Pod
	address netip.Addr
}

// decide works out what node has to enforce. What is wrong in one policy is complained about, and allows nothing: the
// rest of that policy and all others hold.
func decide(node string, seen cluster) enforcement {
	var result enforcement
	pods := withAddress(seen.pods)
	policies := compile(seen, pods, &result.complaints)
	for _, pod := range pods {
		if pod.Spec.NodeName == node {
			result.known = append(result.known, pod.address)
			result.ingress.add(pod, policies, networking.PolicyTypeIngress)
			result.egress.add(pod, policies, networking.PolicyTypeEgress)
		}
	}
	for _, pod := range seen.pods {
		if pod.Spec.NodeName == node && hasOwnNetwork(pod) && !addressOf(pod).IsValid() {
			result.ingress.await(pod, policies, networking.PolicyTypeIngress)
			result.egress.await(pod, policies, networking.PolicyTypeEgress)
		}
	}
	return result
}

// add isolates pod if a policy selects it, and unites what all the policies that do allow.
func (i *isolation) add(pod addressed, policies []compiledPolicy, direction networking.PolicyType) {
	selecting := selectingOf(pod.Pod, policies, direction)
	if len(selecting) == 0 {
		return
	}
	isolated := isolatedPod{name: pod.Namespace + "/" + pod.Name, address: pod.address}
	for _, policy := range selecting {
		for _, rule := range policy.rules[direction] {
			isolated.allowed = append(isolated.allowed, rule.allowances(policy.name, pod, direction)...)
		}
	}
	i.pods = append(i.pods, isolated)
}

func (i *isolation) await(pod *v1.Pod, policies []compiledPolicy, direction networking.PolicyType) {
	if len(selectingOf(pod, policies, direction)) > 0 {
		i.waiting = true
	}
}

// compiledPolicy is a policy with its selectors resolved, which is the same for all pods that it selects.
type compiledPolicy struct {
	name      string
	namespace string
	selector  labels.Selector
	rules     map[networking.PolicyType][]rule // has an entry, if an empty one, for each direction that it isolates
}

// compile resolves the policies in an order that does not depend on that of the API server's answer.
func compile(seen cluster, pods []addressed, complaints *[]string) []compiledPolicy {
	find := finder{pods: pods, namespaces: map[string]labels.Set{}}
	for _, namespace := range seen.namespaces {
		find.namespaces[namespace.Name] = namespace.Labels
	}
	var compiled []compiledPolicy
	for _, policy := range seen.policies {
		complain := func(about error) {
			*complaints = append(*complaints, fmt.Sprintf("policy %s/%s: %v", policy.Namespace, policy.Name, about))
		}
		selector, err := meta.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil {
			complain(fmt.Errorf("it selects no pod: %w", err))
			continue
		}
		compiled = append(compiled, compiledPolicy{
			name:      policy.Namespace + "/" + policy.Name,
			namespace: policy.Namespace,
			selector:  selector,
			rules:     find.rules(policy, complain),
		})
	}
	slices.SortFunc(compiled, func(a, b compiledPolicy) int { return cmp.Compare(a.name, b.name) })
	slices.Sort(*complaints)
	return compiled
}

func selectingOf(pod *v1.Pod, policies []compiledPolicy, direction networking.PolicyType) []compiledPolicy {
	var selecting []compiledPolicy
	for _, policy := range policies {
		_, isolates := policy.rules[direction]
		if isolates && policy.namespace == pod.Namespace && policy.selector.Matches(labels.Set(pod.Labels)) {
			selecting = append(selecting, policy)
		}
	}
	return selecting
}

// typesOf returns the directions that a policy isolates. One that does not say isolates ingress, and egress only if it
// has rules for it.
func typesOf(policy *networking.NetworkPolicy) []networking.PolicyType {
	if len(policy.Spec.PolicyTypes) > 0 {
		return policy.Spec.PolicyTypes
	}
	types := []networking.PolicyType{networking.PolicyTypeIngress}
	if len(policy.Spec.Egress) > 0 {
		types = append(types, networking.PolicyTypeEgress)
	}
	return types
}

// withAddress returns the pods that have an address of their own, by address. Where two claim the same one, it has
// gone over from a pod that is about to be removed to a new one.
func withAddress(pods []*v1.Pod) []addressed {
	owners := map[netip.Addr]*v1.Pod{}
	for _, pod := range pods {
		address := addressOf(pod)
		if !hasOwnNetwork(pod) || !address.IsValid() {
			continue
		}
		if other, taken := owners[address]; !taken || isYounger(pod, other) {
			owners[address] = pod
		}
	}
	result := make([]addressed, 0, len(owners))
	for address, pod := range owners {
		result = append(result, addressed{pod, address})
	}
	slices.SortFunc(result, func(a, b addressed) int { return a.address.Compare(b.address) })
	return result
}

func isYounger(pod, other *v1.Pod) bool {
	if pod.CreationTimestamp.Equal(&other.CreationTimestamp) {
		return pod.UID > other.UID // either, but always the same one
	}
	return other.CreationTimestamp.Before(&pod.CreationTimestamp)
}

// hasOwnNetwork is false for pods that share the node's network, which policies don't judge, and for those that have
// ended, whose addresses others may have by now.
func hasOwnNetwork(pod *v1.Pod) bool {
	return !pod.Spec.HostNetwork && pod.Status.Phase != v1.PodSucceeded && pod.Status.Phase != v1.PodFailed
}

// addressOf returns the pod's IPv4 address, or an invalid one: the cluster has no other family.
func addressOf(pod *v1.Pod) netip.Addr {
	candidates := []string{pod.Status.PodIP}
	for _, other := range pod.Status.PodIPs {
		candidates = append(candidates, other.IP)
	}
	for _, candidate := range candidates {
		if address, err := netip.ParseAddr(candidate); err == nil && address.Is4() {
			return address
		}
	}
	return netip.Addr{}
}
