package main

import (
	"context"
	"strings"
	"testing"

	"sigs.k8s.io/knftables"
)

// applied returns what is in the table after each of wanted has been applied to the one before.
func applied(t *testing.T, wanted ...enforcement) string {
	t.Helper()
	fake := knftables.NewFake(knftables.IPv4Family, policyTable)
	for _, one := range wanted {
		if err := fake.Run(context.Background(), render(fake, one)); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	for line := range strings.Lines(fake.Dump()) {
		if line = strings.TrimPrefix(strings.TrimSpace(line), "add "); line != "" {
			lines = append(lines, strings.ReplaceAll(line, " ip "+policyTable, ""))
		}
	}
	return strings.Join(lines, "\n")
}

func TestRender(t *testing.T) {
	wanted := decide("here", testCluster(
		`
podSelector: {matchLabels: {app: client}}
policyTypes: [Ingress, Egress]
ingress:
- from:
  - podSelector: {matchLabels: {app: web}}
  - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.16/28, 192.0.2.32/28]}
  ports: [{port: 80}, {port: 8000, endPort: 8100}, {protocol: UDP}]
- from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]
egress:
- to: [{podSelector: {matchLabels: {app: web}}}]
- ports: [{port: 53, protocol: UDP}, {port: 7, protocol: SCTP}]
`))
	got := applied(t, enforcement{}, wanted)
	const expected = `table { comment "NetworkPolicy; made anew by podnet" ; }
chain egress-10.0.0.3 { comment "a/client" ; }
chain forward { type filter hook forward priority 0 ; }
chain ingress-10.0.0.3 { comment "a/client" ; }
set pods-1 { type ipv4_addr ; }
map egress { type ipv4_addr : verdict ; }
map ingress { type ipv4_addr : verdict ; }
rule egress-10.0.0.3 ip daddr 10.0.0.3 return
rule egress-10.0.0.3 ip daddr @pods-1 return comment "a/p0"
rule egress-10.0.0.3 udp dport 53 return comment "a/p0"
rule egress-10.0.0.3 sctp dport 7 return comment "a/p0"
rule egress-10.0.0.3 drop
rule forward ct state established,related accept
rule forward ip saddr vmap @egress
rule forward ip daddr vmap @ingress
rule ingress-10.0.0.3 ip saddr 10.0.0.3 return
rule ingress-10.0.0.3 ip saddr @pods-1 tcp dport 80 return comment "a/p0"
rule ingress-10.0.0.3 ip saddr 192.0.2.0/24 ip saddr != 192.0.2.16/28 ip saddr != 192.0.2.32/28 tcp dport 80 return comment "a/p0"
rule ingress-10.0.0.3 ip saddr @pods-1 tcp dport 8000-8100 return comment "a/p0"
rule ingress-10.0.0.3 ip saddr 192.0.2.0/24 ip saddr != 192.0.2.16/28 ip saddr != 192.0.2.32/28 tcp dport 8000-8100 return comment "a/p0"
rule ingress-10.0.0.3 ip saddr @pods-1 meta l4proto udp return comment "a/p0"
rule ingress-10.0.0.3 ip saddr 192.0.2.0/24 ip saddr != 192.0.2.16/28 ip saddr != 192.0.2.32/28 meta l4proto udp return comment "a/p0"
rule ingress-10.0.0.3 ip saddr 0.0.0.0/0 ip saddr != 10.0.0.0/8 return comment "a/p0"
rule ingress-10.0.0.3 drop
element pods-1 { 10.0.0.1 }
element pods-1 { 10.0.0.2 }
element egress { 10.0.0.3 : jump egress-10.0.0.3 }
element ingress { 10.0.0.3 : jump ingress-10.0.0.3 }`
	if got != expected {
		t.Errorf("got:\n%s", got)
	}
}

func TestWhileAnIsolatedPodStartsNobodyUnknownMaySpeak(t *testing.T) {
	seen := testCluster("podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]")
	seen.pods[2].Status.PodIP = ""
	got := applied(t, decide("here", seen))
	for _, line := range []string{
		`rule forward iifname "veth*" ip saddr != @known drop comment "a pod that a policy selects is starting"`,
		"element known { 10.0.0.1 }",
		"element known { 10.0.0.2 }",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("%s is missing in:\n%s", line, got)
		}
	}
	if strings.Contains(got, "oifname") || strings.Contains(got, "10.0.1.") {
		t.Errorf("too much:\n%s", got)
	}
}

func TestNothingIsLeftOfARuleThatIsGone(t *testing.T) {
	with := decide("here", testCluster("podSelector: {}\ningress: [{from: [{podSelector: {}}]}]"))
	if got := applied(t, with, enforcement{}); got != applied(t, enforcement{}) {
		t.Errorf("got:\n%s", got)
	}
}

func TestALongNameIsCutInTheComment(t *testing.T) {
	seen := testCluster("podSelector: {}\ningress: [{}]")
	seen.pods[0].Name = strings.Repeat("n", 253)
	seen.policies[0].Name = strings.Repeat("p", 253)
	if got := applied(t, decide("here", seen)); !strings.Contains(got, strings.Repeat("p", 126)+`"`) {
		t.Errorf("got:\n%s", got)
	}
}
