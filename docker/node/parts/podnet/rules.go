package main

import (
	"fmt"
	"net/netip"
	"strings"

	"sigs.k8s.io/knftables"
)

// policyTable is a table of its own: each transaction makes it anew as a whole, so what is in it never depends on what
// was there before, and the kernel goes over from the old to the new at once.
const policyTable = "podnet-policy"

// anyPod is what the interfaces of this node's pods are called by the ptp plugin.
const anyPod = `"veth*"`

// way is one direction, as the rules of a pod see it.
type way struct {
	name  string // of the map, and what the pods' chains begin with
	own   string // matches the pod's own address
	other string // matches the address on the other side
	pods  string // matches the interfaces of this node's pods
}

var (
	in  = way{name: "ingress", own: "ip daddr", other: "ip saddr", pods: "oifname " + anyPod}
	out = way{name: "egress", own: "ip saddr", other: "ip daddr", pods: "iifname " + anyPod}
)

// render makes the transaction that replaces all rules with those for wanted.
func render(nft knftables.Interface, wanted enforcement) *knftables.Transaction {
	writer := &writer{Transaction: nft.NewTransaction(), sets: map[string]string{}}
	table := &knftables.Table{Comment: knftables.PtrTo("NetworkPolicy; made anew by podnet")}
	writer.Add(table) // so that there is one to delete
	writer.Delete(table)
	writer.Add(table)
	writer.forward()
	if wanted.ingress.waiting || wanted.egress.waiting {
		writer.set("known", wanted.known)
	}
	// Between two pods of this node both have to agree: a chain that allows only returns, to be followed by the other.
	writer.isolate(out, wanted.egress)
	writer.isolate(in, wanted.ingress)
	return writer.Transaction
}

// writer adds to a transaction.
type writer struct {
	*knftables.Transaction
	sets map[string]string // the names of sets of pods by what is in them
}

// forward is where packets between pods, or between a pod and another machine, pass, after kube-proxy has put a pod's
// address in place of a service's. The node's own packets to its pods, such as probes, do not, and are always free.
//
// What has been allowed once goes on until it ends: a connection outlives a policy that would now refuse it.
func (w *writer) forward() {
	w.Add(&knftables.Chain{
		Name:     "forward",
		Type:     knftables.PtrTo(knftables.FilterType),
		Hook:     knftables.PtrTo(knftables.ForwardHook),
		Priority: knftables.PtrTo(knftables.FilterPriority),
	})
	w.rule("forward", "", "ct state established,related accept")
}

// isolate sends what concerns an isolated pod to a chain of its own.
func (w *writer) isolate(way way, isolation isolation) {
	w.Add(&knftables.Map{Name: way.name, Type: "ipv4_addr : verdict"})
	for _, pod := range isolation.pods {
		chain := way.name + "-" + pod.address.String()
		w.chain(chain, way, pod)
		w.Add(&knftables.Element{
			Map: way.name, Key: []string{pod.address.String()}, Value: []string{"jump " + chain},
		})
	}
	w.rule("forward", "", way.own, "vmap", "@"+way.name)
	if isolation.waiting {
		// A pod runs for about a second before the API server tells its address. Until then nobody whose address is
		// unknown may speak: a pod of no policy that starts at the same time has to send its first packet again.
		w.rule("forward", "a pod that a policy selects is starting", way.pods, way.own, "!= @known drop")
	}
}

// chain returns for what is allowed, and drops the rest.
func (w *writer) chain(name string, way way, pod isolatedPod) {
	w.Add(&knftables.Chain{Name: name, Comment: comment(pod.name)})
	// A pod always reaches itself, as it does through a service of its own.
	w.rule(name, "", way.other, pod.address.String(), "return")
	for _, allowed := range pod.allowed {
		for _, port := range allowed.ports {
			for _, peer := range w.peers(way, allowed.peers) {
				w.rule(name, allowed.policy, peer, match(port), "return")
			}
		}
	}
	w.rule(name, "", "drop")
}

// peers returns a match for each kind of them; an empty one is for everybody.
func (w *writer) peers(way way, peers peers) []string {
	var matches []string
	if len(peers.pods) > 0 {
		matches = append(matches, way.other+" @"+w.podSet(peers.pods))
	}
	for _, block := range peers.blocks {
		if block.cidr.Bits() == 0 && len(block.except) == 0 {
			matches = append(matches, "")
			continue
		}
		parts := []string{way.other, block.cidr.String()}
		for _, hole := range block.except {
			parts = append(parts, way.other, "!=", hole.String())
		}
		matches = append(matches, strings.Join(parts, " "))
	}
	return matches
}

func match(port portRange) string {
	protocol := strings.ToLower(string(port.protocol))
	switch {
	case port == everything:
		return ""
	case port.first == 0:
		return "meta l4proto " + protocol
	case port.first == port.last:
		return fmt.Sprintf("%s dport %d", protocol, port.first)
	}
	return fmt.Sprintf("%s dport %d-%d", protocol, port.first, port.last)
}

// podSet returns the name of the set with these pods. Rules that select the same ones share it.
func (w *writer) podSet(pods []addressed) string {
	addresses := make([]netip.Addr, 0, len(pods))
	for _, pod := range pods {
		addresses = append(addresses, pod.address)
	}
	content := fmt.Sprint(addresses)
	name, there := w.sets[content]
	if !there {
		name = fmt.Sprintf("pods-%d", len(w.sets)+1)
		w.sets[content] = name
		w.set(name, addresses)
	}
	return name
}

func (w *writer) set(name string, addresses []netip.Addr) {
	w.Add(&knftables.Set{Name: name, Type: "ipv4_addr"})
	for _, address := range addresses {
		w.Add(&knftables.Element{Set: name, Key: []string{address.String()}})
	}
}

func (w *writer) rule(chain, about string, parts ...string) {
	given := strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
	w.Add(&knftables.Rule{Chain: chain, Rule: given, Comment: comment(about)})
}

// comment cuts off what the kernel would not take: namespaces and names may be longer.
func comment(text string) *string {
	if text == "" {
		return nil
	}
	return knftables.PtrTo(text[:min(len(text), knftables.CommentLengthMax)])
}
